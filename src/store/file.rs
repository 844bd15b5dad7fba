//! The container of all KV files, whether of a block or of a whole prefix. Equal values give equal bytes.
//!
//! The format is safetensors, so any tool can read it. The tensors are `tokens` (U32 `[n]`), optionally `last_hidden`
//! (F32 `[hidden]`), `state` (F32 `[count]`) if layers keep one, and then `k.N` and `v.N` (`[n, width]`) for every
//! layer with keys and values, back to back in that order. Layers with a sliding window come last. `__metadata__` holds
//! the format, the namespace fields (`ns.TAG`), the digest, and fields of that format. If there are layers with a
//! window, it also holds their number (`windows`) and a digest of the data before them (`start`), so that the start of
//! a file can be read and verified alone.
//!
//! Invariants: equal values give equal bytes (sorted metadata, tensors in a fixed order, the header padded with spaces
//! to 8), and the reader accepts only those bytes: it renders the header again from what it read and compares. The
//! digest is SHA-256 over the rendered header, with zeros in place of the digest, and then the data, so it covers every
//! byte. The digest of the start is over the header with zeros for both digests, and then the data before the windows.
//! The digests are computed with zeros in the fields that authenticate them (`mac`, `signature`). No allocation follows
//! a size that the file claims: a header has at most [`MAX_HEADER`] bytes, and data are bounded by the bytes present.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::digest::{Digested, Draft};
use super::{Reject, StoreKey};

/// A longer header is refused unread. One of 128 layers has about 25,000 bytes.
pub const MAX_HEADER: usize = 256 << 10;

const DIGEST: &str = "digest";
/// The digest of what is before layers with a window.
const START: &str = "start";
/// How many layers with a window there are.
const WINDOWS: &str = "windows";
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The MAC of a block, written by its store (see [`super::seal`]).
pub(super) const MAC: &str = "mac";
pub(super) const NO_MAC: &str = NO_DIGEST;
/// The signature of a pack (see [`super::pack`]), and none.
pub(super) const SIGNATURE: &str = "signature";
pub(super) const NO_SIGNATURE: &str = "0000000000000000000000000000000000000000000000000000000000000000\
                                       0000000000000000000000000000000000000000000000000000000000000000";
/// Fields that no digest covers, and the zeros that replace them while a digest is computed.
const VOUCHERS: [(&str, &str); 2] = [(MAC, NO_MAC), (SIGNATURE, NO_SIGNATURE)];

/// The type of a row's elements, for other readers of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F16,
    /// Opaque bytes.
    U8,
}

impl Element {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::U8 => "U8",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::U8 => Dtype::U8,
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::U8 => 1,
        }
    }
}

/// Bytes that one token's K and V take in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub k: usize,
    pub v: usize,
}

/// The numbers from which the tensors of a file follow.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shape {
    pub(crate) tokens: usize,
    pub(crate) hidden: Option<usize>,
    pub(crate) element: Element,
    pub(crate) rows: Vec<Row>,
    /// How many of the rows, the last, are of layers with a window.
    pub(crate) windows: usize,
    /// Elements of states.
    pub(crate) state: usize,
}

impl Shape {
    /// The caller checks whether the tensors that follow from it are the ones found.
    fn read(parsed: &Metadata, max_tokens: usize) -> Option<Self> {
        let found = parsed.tensors();
        let tokens = *found.get("tokens")?.shape.first()?;
        if !(1..=max_tokens).contains(&tokens) {
            return None;
        }
        let hidden = match found.get("last_hidden") {
            Some(info) => Some(*info.shape.first()?),
            None => None,
        };
        let state = match found.get("state") {
            Some(info) => Some(*info.shape.first()?).filter(|&state| state > 0)?,
            None => 0,
        };
        let layers = (found.len() - 1 - hidden.iter().len() - usize::from(state > 0)) / 2;
        let element = match found.get("k.0") {
            Some(info) if info.dtype == Dtype::U8 => Element::U8,
            _ => Element::F16,
        };
        let windows = match parsed.metadata().as_ref()?.get(WINDOWS) {
            Some(count) => count.parse().ok().filter(|&count| (1..=layers).contains(&count))?,
            None => 0,
        };
        let rows = (0..layers).map(|layer| {
            Some(Row {
                k: row_bytes(&found, &format!("k.{layer}"), element)?,
                v: row_bytes(&found, &format!("v.{layer}"), element)?,
            })
        });
        Some(Self { tokens, hidden, element, rows: rows.collect::<Option<_>>()?, windows, state })
    }

    /// Names, types, shapes and places of the tensors, in file order. The sizes come from existing memory, or from a
    /// header whose sizes were checked for overflow.
    fn tensors(&self) -> Vec<(String, TensorInfo)> {
        let Self { tokens, element, .. } = *self;
        let mut tensors = Vec::with_capacity(3 + 2 * self.rows.len());
        let mut end = 0usize;
        let mut push = |name: String, dtype: Dtype, shape: Vec<usize>, bytes: usize| {
            let begin = end;
            end = begin.saturating_add(bytes);
            tensors.push((name, TensorInfo { dtype, shape, data_offsets: (begin, end) }));
        };
        push("tokens".to_owned(), Dtype::U32, vec![tokens], tokens.saturating_mul(4));
        if let Some(hidden) = self.hidden {
            push("last_hidden".to_owned(), Dtype::F32, vec![hidden], hidden.saturating_mul(4));
        }
        if self.state > 0 {
            push("state".to_owned(), Dtype::F32, vec![self.state], self.state.saturating_mul(4));
        }
        for (layer, row) in self.rows.iter().enumerate() {
            for (name, bytes) in [("k", row.k), ("v", row.v)] {
                let shape = vec![tokens, bytes / element.bytes()];
                push(format!("{name}.{layer}"), element.dtype(), shape, bytes.saturating_mul(tokens));
            }
        }
        tensors
    }

    /// Bytes of these tensors' data before the layers with a window.
    fn start(&self, tensors: &[(String, TensorInfo)]) -> usize {
        let windows = tensors.len() - 2 * self.windows;
        tensors[windows - 1].1.data_offsets.1
    }
}

fn row_bytes(tensors: &HashMap<String, &TensorInfo>, name: &str, element: Element) -> Option<usize> {
    tensors.get(name)?.shape.get(1)?.checked_mul(element.bytes())
}

/// A header that the writer would write, as far as can be checked without the data.
pub(super) struct Head {
    pub(crate) shape: Shape,
    /// The header with zeros for the digests and for the fields that authenticate them.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) digest: StoreKey,
    /// The field that authenticates the digests, as it stands in the header.
    pub(crate) vouchers: BTreeMap<&'static str, String>,
    /// The digest of the data before the layers with a window, if there are any.
    start: Option<StoreKey>,
}

impl Head {
    /// Parses `header`, the bytes between the length and the data. `data` is the length of the data; more than
    /// `max_tokens` tokens are refused.
    pub(crate) fn read(header: &[u8], data: u64, format: &str, max_tokens: usize) -> Result<Self, Reject> {
        let (head, length) = Self::parse(header, format, max_tokens)?;
        match data {
            found if found < length => Err(Reject::Truncated),
            found if found > length => Err(Reject::Size),
            _ => Ok(head),
        }
    }

    /// Also returns the length that the data must have.
    pub(crate) fn parse(header: &[u8], format: &str, max_tokens: usize) -> Result<(Self, u64), Reject> {
        let parsed: Metadata = serde_json::from_slice(header).map_err(|_| Reject::Header)?;
        let metadata = parsed.metadata().as_ref().ok_or(Reject::Header)?;
        if metadata.get("format").ok_or(Reject::Header)? != format {
            return Err(Reject::Version);
        }
        let shape = Shape::read(&parsed, max_tokens).ok_or(Reject::Header)?;
        let mut metadata: BTreeMap<String, String> = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if render(&metadata, &shape.tensors()) != header {
            return Err(Reject::Header);
        }
        let mut digest = |name: &str| {
            let digest = metadata.get_mut(name).map(|text| std::mem::replace(text, NO_DIGEST.to_owned()));
            digest.and_then(|text| unhex(&text)).ok_or(Reject::Header)
        };
        let whole = digest(DIGEST)?;
        let start = if shape.windows > 0 { Some(digest(START)?) } else { None };
        let mut vouchers = BTreeMap::new();
        for (name, none) in VOUCHERS {
            let Some(text) = metadata.get_mut(name) else { continue };
            if text.len() != none.len() || !text.bytes().all(is_hex) {
                return Err(Reject::Header);
            }
            vouchers.insert(name, std::mem::replace(text, none.to_owned()));
        }
        Ok((Self { shape, metadata, digest: whole, vouchers, start }, parsed.data_len() as u64))
    }

    /// As [`Head::read`], for a file of which at least the start is present. Also returns the data of the start.
    pub(crate) fn read_start<'a>(
        header: &[u8],
        data: &'a [u8],
        format: &str,
        max_tokens: usize,
    ) -> Result<(Self, Digested<'a>), Reject> {
        let (head, _) = Self::parse(header, format, max_tokens)?;
        let tensors = head.shape.tensors();
        let data = data.get(..head.shape.start(&tensors)).ok_or(Reject::Truncated)?;
        let digested = Digested { header: render(&head.metadata, &tensors), data, digest: head.start };
        Ok((head, digested))
    }

    /// The header and these data of a whole file.
    pub(crate) fn digested<'a>(&self, data: &'a [u8]) -> Digested<'a> {
        let mut metadata = self.metadata.clone();
        if let Some(start) = &self.start {
            metadata.insert(START.to_owned(), hex(start));
        }
        Digested { header: render(&metadata, &self.shape.tensors()), data, digest: Some(self.digest) }
    }

    pub(crate) fn text(&self, name: &str) -> Result<&str, Reject> {
        self.metadata.get(name).map(String::as_str).ok_or(Reject::Header)
    }

    pub(crate) fn key(&self, name: &str) -> Result<StoreKey, Reject> {
        unhex(self.text(name)?).ok_or(Reject::Header)
    }

    /// Tag and value of every namespace field.
    pub(crate) fn namespace(&self) -> BTreeMap<String, String> {
        let fields = self.metadata.iter();
        fields.filter_map(|(name, value)| Some((name.strip_prefix("ns.")?.to_owned(), value.clone()))).collect()
    }
}

/// The header of a file of which everything but the data is known in advance, so that it need not be parsed.
pub(super) struct Known {
    /// The header with zeros for the digests.
    header: Vec<u8>,
    /// Bytes of the data, and of the part before the layers with a window.
    data: usize,
    start: usize,
    /// Its digests, in the order in which they are computed.
    digests: &'static [&'static str],
}

impl Known {
    pub(crate) fn new(shape: &Shape, namespace: &BTreeMap<String, String>, metadata: &[(&str, &str)]) -> Self {
        let tensors = shape.tensors();
        let header = render(&fields(shape, namespace, metadata), &tensors);
        let data = tensors.last().map_or(0, |(_, last)| last.data_offsets.1);
        let digests: &[&str] = if shape.windows > 0 { &[START, DIGEST] } else { &[DIGEST] };
        Self { header, data, start: shape.start(&tensors), digests }
    }

    /// The header and the data of a file, or only of the part before the layers with a window. `None` if the header or
    /// the length of the data is another one.
    pub(crate) fn digested<'a>(&self, header: &[u8], data: &'a [u8], start: bool) -> Option<Digested<'a>> {
        let data = match start {
            true => data.get(..self.start)?,
            false => Some(data).filter(|data| data.len() == self.data)?,
        };
        // The digest of the start is over a header with zeros for both digests, that of the whole over one with zeros
        // for itself alone.
        let (mut sealed, mut digests) = (self.header.clone(), Vec::new());
        for name in self.digests {
            let place = place(&self.header, name)?;
            let digest = unhex(str::from_utf8(header.get(place.clone())?).ok()?)?;
            digests.push((sealed.clone(), digest));
            sealed[place.clone()].copy_from_slice(&header[place]);
        }
        if let Some(place) = place(&sealed, MAC) {
            let mac = header.get(place.clone()).filter(|mac| mac.iter().copied().all(is_hex))?;
            sealed[place].copy_from_slice(mac);
        }
        if sealed != header {
            return None;
        }
        if start && digests.len() == 1 {
            return None;
        }
        let (header, digest) = digests.swap_remove(if start { 0 } else { digests.len() - 1 });
        Some(Digested { header, data, digest: Some(digest) })
    }
}

/// The place of the first 64 digits of the field of that name in a header. Text in a header cannot look like a field's
/// name or like the end of the metadata, which come first, since its quotes are escaped.
pub(super) fn place(header: &[u8], name: &str) -> Option<Range<usize>> {
    let metadata = &header[..header.windows(4).position(|bytes| bytes == b"\"},\"").unwrap_or(header.len())];
    let field = format!("\"{name}\":\"");
    let at = metadata.windows(field.len()).position(|bytes| bytes == field.as_bytes())? + field.len();
    (at + NO_DIGEST.len() <= metadata.len()).then(|| at..at + NO_DIGEST.len())
}

/// The digests in a header, in the order in which they are computed; none if it has none.
pub(super) fn digests(header: &[u8]) -> Option<Vec<&[u8]>> {
    let start = place(header, START).map(|start| &header[start]);
    Some(start.into_iter().chain([&header[place(header, DIGEST)?]]).collect())
}

/// The digest in the header of a whole file.
pub(super) fn digest(header: &[u8]) -> Option<StoreKey> {
    unhex(str::from_utf8(&header[place(header, DIGEST)?]).ok()?)
}

/// Whether the writer sets the field itself.
pub(super) fn is_derived(name: &str) -> bool {
    [DIGEST, START, WINDOWS].contains(&name)
}

/// The length of the header that follows these 8 bytes.
pub(super) fn header_length(bytes: &[u8; 8]) -> Result<usize, Reject> {
    let length = usize::try_from(u64::from_le_bytes(*bytes)).map_err(|_| Reject::Header)?;
    if length > MAX_HEADER { Err(Reject::Header) } else { Ok(length) }
}

/// Header and data of a whole file.
pub(super) fn split(file: &[u8]) -> Result<(&[u8], &[u8]), Reject> {
    let (length, rest) = file.split_first_chunk::<8>().ok_or(Reject::Truncated)?;
    rest.split_at_checked(header_length(length)?).ok_or(Reject::Truncated)
}

/// The only file of these values, without its digests. `data` holds the tensors' bytes in order, in any pieces.
pub(super) fn draft<'a>(
    shape: &Shape,
    namespace: &BTreeMap<String, String>,
    metadata: &[(&str, &str)],
    data: impl Iterator<Item = &'a [u8]>,
) -> Draft {
    let tensors = shape.tensors();
    let header = render(&fields(shape, namespace, metadata), &tensors);
    let bytes = tensors.last().map_or(0, |(_, last)| last.data_offsets.1);

    let mut file = Vec::with_capacity(8 + header.len() + bytes);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(&header);
    data.for_each(|part| file.extend(part));
    assert_eq!(file.len(), 8 + header.len() + bytes, "bytes of data for the shape");
    let mut lacks = vec![(DIGEST, bytes)];
    if shape.windows > 0 {
        lacks.push((START, shape.start(&tensors)));
    }
    Draft { file, header: header.len(), lacks }
}

/// Bytes at the beginning of a file that hold its start, at most.
pub(super) fn start_bytes(shape: &Shape, namespace: &BTreeMap<String, String>, metadata: &[(&str, &str)]) -> usize {
    let (fields, tensors) = (fields(shape, namespace, metadata), shape.tensors());
    8 + render(&fields, &tensors).len() + shape.start(&tensors)
}

/// The metadata of a file, with zeros for the digests.
fn fields(shape: &Shape, namespace: &BTreeMap<String, String>, metadata: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> =
        namespace.iter().map(|(tag, value)| (format!("ns.{tag}"), value.clone())).collect();
    fields.extend(metadata.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    fields.insert(DIGEST.to_owned(), NO_DIGEST.to_owned());
    if shape.windows > 0 {
        fields.insert(WINDOWS.to_owned(), shape.windows.to_string());
        fields.insert(START.to_owned(), NO_DIGEST.to_owned());
    }
    fields
}

/// The only header for these values.
fn render(metadata: &BTreeMap<String, String>, tensors: &[(String, TensorInfo)]) -> Vec<u8> {
    let mut header = serde_json::to_vec(&Header { metadata, tensors }).expect("maps of texts and numbers are JSON");
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}

struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: &'a [(String, TensorInfo)],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.tensors.len()))?;
        map.serialize_entry("__metadata__", self.metadata)?;
        self.tensors.iter().try_for_each(|(name, info)| map.serialize_entry(name, info))?;
        map.end()
    }
}

/// Little-endian words, as tensors of 32-bit numbers hold them.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks().0.iter().copied()
}

/// Whether all of these halves (F16, little-endian) are finite.
pub(super) fn halves_are_finite(bytes: &[u8]) -> bool {
    // Blocks of a length that compilers vectorise.
    bytes
        .as_chunks::<64>()
        .0
        .iter()
        .all(|block| !block.as_chunks().0.iter().fold(false, |any, half| any | is_infinite(*half)))
        && !bytes.as_chunks::<64>().1.as_chunks().0.iter().any(|half| is_infinite(*half))
}

/// Infinite or NaN.
fn is_infinite(half: [u8; 2]) -> bool {
    u16::from_le_bytes(half) & 0x7c00 == 0x7c00
}

/// 64 lower-case hex digits.
pub(super) fn hex(key: &StoreKey) -> String {
    let digits = key.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

fn is_hex(digit: u8) -> bool {
    matches!(digit, b'0'..=b'9' | b'a'..=b'f')
}

/// Parses what [`hex`] writes, and nothing else.
pub(super) fn unhex(text: &str) -> Option<StoreKey> {
    let mut key = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != key.len() || !rest.is_empty() {
        return None;
    }
    let digit = |c: u8| if c.is_ascii_uppercase() { None } else { char::from(c).to_digit(16) };
    for (byte, pair) in key.iter_mut().zip(pairs) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(key)
}
