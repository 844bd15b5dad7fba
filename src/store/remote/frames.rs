//! Reads Redis replies frame by frame (RESP2). It accepts only the expected shapes, and allocates no more memory than
//! bytes arrive.
//!
//! The `redis` crate's parser accepts replies of any shape and depth, in which a few bytes become a value each, so a
//! server could make it allocate gigabytes. Here the announced size of a frame is checked against its bound before its
//! content is read, and only single lines go to that parser.

use std::io::{self, BufRead, Read, Take};

use redis::{ErrorKind, RedisError, RedisResult, Value, parse_redis_value};

const MAX_LINE: u64 = 4 << 10;
/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// The expected shape of a command's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A number, a status, or a string.
    Single,
    /// A string and a list of strings.
    Listing,
}

impl Shape {
    fn depth(self) -> usize {
        match self {
            Self::Single => 0,
            Self::Listing => 2,
        }
    }
}

/// `source` is limited to the bytes that the replies may take.
pub(super) fn read(source: &mut Take<impl BufRead>, shape: Shape) -> RedisResult<Value> {
    frame(source, shape.depth())
}

/// `depth` is the number of nested lists that are allowed.
fn frame(source: &mut Take<impl BufRead>, depth: usize) -> RedisResult<Value> {
    let mut line = Vec::new();
    source.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    let Some(text) = line.strip_suffix(b"\r\n") else {
        return Err(if line.last() == Some(&b'\n') || line.len() as u64 == MAX_LINE { alien() } else { ended() });
    };
    let length = |digits: &[u8]| -> RedisResult<Option<usize>> {
        match str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i64>().ok()) {
            Some(-1) => Ok(None),
            length => length.and_then(|length| usize::try_from(length).ok()).map(Some).ok_or_else(alien),
        }
    };
    match text.split_first() {
        Some((b'+' | b'-' | b':', _)) => parse_redis_value(&line),
        Some((b'$', digits)) => Ok(length(digits)?.map_or(Ok(Value::Nil), |length| string(source, length))?),
        Some((b'*', digits)) if depth > 0 => {
            let Some(count) = length(digits)? else { return Ok(Value::Nil) };
            let mut list = Vec::new();
            for _ in 0..count {
                list.push(frame(source, depth - 1)?);
            }
            Ok(Value::Array(list))
        }
        _ => Err(alien()),
    }
}

/// Whatever was announced, the buffer holds no more than may arrive, and memory is touched only as bytes arrive.
fn string(source: &mut Take<impl BufRead>, length: usize) -> RedisResult<Value> {
    let most = usize::try_from(source.limit()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length.min(most));
    while bytes.len() < length {
        let read = bytes.len();
        bytes.resize(read + PIECE.min(length - read), 0);
        source.read_exact(&mut bytes[read..])?;
    }
    let mut end = [0; 2];
    source.read_exact(&mut end)?;
    if end == *b"\r\n" { Ok(Value::BulkString(bytes)) } else { Err(alien()) }
}

fn alien() -> RedisError {
    (ErrorKind::Parse, "not what was asked for").into()
}

fn ended() -> RedisError {
    io::Error::from(io::ErrorKind::UnexpectedEof).into()
}
