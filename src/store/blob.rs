//! One block of KV as a file: the same bytes natively, in a browser, in memory, on a disk and behind a network.
//!
//! The container is safetensors, so any tool reads it: `tokens` (U32 `[n]`), optionally `last_hidden` (F32 `[hidden]`),
//! then for every layer `k.N` and `v.N` (`[n, width]`), back to back in that order. `__metadata__` holds the format, the
//! namespace fields (`ns.TAG`), the keys of the block and of its parent, the producer and the digest.
//!
//! Invariants: equal blobs are equal bytes (metadata sorted, tensors in a fixed order, header padded with spaces to
//! 8), and only those bytes are accepted: the decoder renders the header again from what it read and compares. The
//! digest is SHA-256 over the rendered header with a digest of zeros, then the data, so it covers every byte. Nothing
//! is allocated from a size that the file claims: a header has at most [`MAX_HEADER`] bytes, data what is really there.
//!
//! Cost: one SHA-256 and one copy of the data, in either direction.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use super::Key;

/// Tokens in a block, at most.
pub const BLOCK: usize = 16;

/// A header of more bytes than this is refused unread; one of 128 layers has about 25,000.
pub const MAX_HEADER: usize = 256 << 10;

const FORMAT: &str = "headstart-kv/1";
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Which kernels computed the KV: only prefill's is bit-identical to a cold run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    Prefill,
    Decode,
}

impl Producer {
    fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// What the bytes of a row are, for other readers of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F16,
    /// Opaque bytes.
    U8,
}

impl Element {
    fn dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::U8 => Dtype::U8,
        }
    }

    fn bytes(self) -> usize {
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

/// The KV of one block, and what it depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Blob {
    pub key: Key,
    /// The key of the block before, or of the namespace for the first.
    pub parent: Key,
    /// 1 to [`BLOCK`].
    pub tokens: Vec<u32>,
    /// Tag and value of every namespace field.
    pub namespace: BTreeMap<String, String>,
    pub producer: Producer,
    /// Hidden state of the last token before the LM head, where the block ends at a breakpoint.
    pub last_hidden: Option<Vec<f32>>,
    pub element: Element,
    pub rows: Vec<Row>,
    /// For every layer K `[n, k]`, then V `[n, v]`, back to back.
    pub kv: Vec<u8>,
}

/// What the caller knows of the block that it asks for. Borrowed, so that asking costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub key: Key,
    pub parent: Key,
    pub tokens: &'a [u32],
    /// In any order.
    pub namespace: &'a [(&'a str, &'a str)],
    pub element: Element,
    pub rows: &'a [Row],
    /// Elements of `last_hidden`, if the blob has one.
    pub hidden: usize,
}

/// What a file says of the block in it, without its KV. Only as true as the file: the digest covers the KV too.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub key: Key,
    pub parent: Key,
    pub tokens: Vec<u32>,
    pub namespace: BTreeMap<String, String>,
    pub producer: Producer,
    /// Elements of `last_hidden`, if the block has one.
    pub hidden: Option<usize>,
}

/// Why bytes are not the blob that was asked for. Always counted, never a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// Ends before its own end.
    Truncated,
    /// Not a header that the encoder writes.
    Header,
    /// Another format or another version of it.
    Version,
    /// More bytes than announced, or not as many as this model's blocks have.
    Size,
    /// Altered after it was written.
    Digest,
    /// Whole, but of another model, configuration, adapter or salt.
    Namespace,
    /// Whole, but another block.
    Key,
    /// Whole and of that name, but after other tokens.
    Parent,
    /// Whole and of that name, but other tokens.
    Tokens,
    /// Layers or widths are not this model's.
    Layout,
}

impl Reject {
    pub const ALL: [Self; 10] = [
        Self::Truncated,
        Self::Header,
        Self::Version,
        Self::Size,
        Self::Digest,
        Self::Namespace,
        Self::Key,
        Self::Parent,
        Self::Tokens,
        Self::Layout,
    ];

    /// A label for counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Header => "header",
            Self::Version => "version",
            Self::Size => "size",
            Self::Digest => "digest",
            Self::Namespace => "namespace",
            Self::Key => "key",
            Self::Parent => "parent",
            Self::Tokens => "tokens",
            Self::Layout => "layout",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Blob {
    /// K of `layer`: `[n, rows[layer].k]` bytes.
    pub fn k(&self, layer: usize) -> &[u8] {
        let begin = self.offset(layer);
        &self.kv[begin..begin + self.tokens.len() * self.rows[layer].k]
    }

    /// V of `layer`: `[n, rows[layer].v]` bytes.
    pub fn v(&self, layer: usize) -> &[u8] {
        let end = self.offset(layer + 1);
        &self.kv[end - self.tokens.len() * self.rows[layer].v..end]
    }

    fn offset(&self, layer: usize) -> usize {
        self.rows[..layer].iter().map(|row| row.k + row.v).sum::<usize>() * self.tokens.len()
    }

    /// Equal blobs give equal bytes. Panics where the parts of the blob contradict each other.
    pub fn encode(&self) -> Vec<u8> {
        assert!((1..=BLOCK).contains(&self.tokens.len()), "a block has 1 to {BLOCK} tokens");
        assert_eq!(self.kv.len(), self.offset(self.rows.len()), "bytes of KV for the rows and tokens of the blob");
        let size = self.element.bytes();
        assert!(self.rows.iter().all(|row| row.k % size == 0 && row.v % size == 0), "rows of whole elements");

        let mut data = Vec::with_capacity(4 * BLOCK + self.last_hidden.as_ref().map_or(0, |h| 4 * h.len()));
        data.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        data.extend(self.last_hidden.iter().flatten().flat_map(|value| value.to_le_bytes()));
        let tensors = layout(self.tokens.len(), self.last_hidden.as_ref().map(Vec::len), self.element, &self.rows);
        let mut metadata: BTreeMap<String, String> =
            self.namespace.iter().map(|(tag, value)| (format!("ns.{tag}"), value.clone())).collect();
        for (name, value) in [
            ("digest", NO_DIGEST.to_owned()),
            ("format", FORMAT.to_owned()),
            ("key", hex(&self.key)),
            ("parent", hex(&self.parent)),
            ("producer", self.producer.name().to_owned()),
        ] {
            metadata.insert(name.to_owned(), value);
        }
        let digest = digest(&render(&metadata, &tensors), &[&data, &self.kv]);
        metadata.insert("digest".to_owned(), hex(&digest));
        let header = render(&metadata, &tensors);

        let mut file = Vec::with_capacity(8 + header.len() + data.len() + self.kv.len());
        file.extend((header.len() as u64).to_le_bytes());
        file.extend(header);
        file.extend(data);
        file.extend(&self.kv);
        file
    }

    /// The blob that was asked for, or why these bytes are not it.
    pub fn decode(bytes: &[u8], expected: &Expected<'_>) -> Result<Self, Reject> {
        let width: usize = expected.rows.iter().map(|row| row.k + row.v).sum();
        let data = (4 + width) * expected.tokens.len();
        if bytes.len() > 8 + MAX_HEADER + data + 4 * expected.hidden {
            return Err(Reject::Size);
        }
        let blob = Self::parse(bytes)?;
        let fields: BTreeMap<&str, &str> = expected.namespace.iter().copied().collect();
        let same_fields = fields.into_iter().eq(blob.namespace.iter().map(|(tag, value)| (&**tag, &**value)));
        let hidden_fits = blob.last_hidden.as_ref().is_none_or(|hidden| hidden.len() == expected.hidden);
        match () {
            _ if !same_fields => Err(Reject::Namespace),
            _ if blob.key != expected.key => Err(Reject::Key),
            _ if blob.parent != expected.parent => Err(Reject::Parent),
            _ if blob.tokens != expected.tokens => Err(Reject::Tokens),
            _ if blob.rows != expected.rows || blob.element != expected.element || !hidden_fits => Err(Reject::Layout),
            _ => Ok(blob),
        }
    }

    /// A blob that agrees with itself, whatever block it is: for listings. Only [`Blob::decode`] says that it is the one
    /// wanted.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or(Reject::Truncated)?;
        let (header, data) = rest.split_at_checked(header_length(length)?).ok_or(Reject::Truncated)?;
        let Head { shape, tensors, mut metadata } = Head::read(header, data.len() as u64)?;
        let claimed = metadata.insert("digest".to_owned(), NO_DIGEST.to_owned());
        let claimed = claimed.and_then(|text| unhex(&text)).ok_or(Reject::Header)?;
        if digest(&render(&metadata, &tensors), &[data]) != claimed {
            return Err(Reject::Digest);
        }
        let (tokens, data) = data.split_at(4 * shape.tokens);
        let Description { key, parent, tokens, namespace, producer, .. } = describe(&metadata, &shape, tokens)?;
        let (hidden, kv) = data.split_at(4 * shape.hidden.unwrap_or(0));
        Ok(Self {
            key,
            parent,
            tokens,
            namespace,
            producer,
            last_hidden: shape
                .hidden
                .map(|_| hidden.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()),
            element: shape.element,
            rows: shape.rows,
            kv: kv.to_vec(),
        })
    }

    /// Reads the header and the tokens of a blob of `bytes` bytes, and no more: for listings. Unverified, since the digest
    /// is over the KV too. A reader that fails is a blob that ends there.
    pub fn describe(reader: &mut dyn Read, bytes: u64) -> Result<Description, Reject> {
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(|_| Reject::Truncated)?;
        let length = header_length(&length)?;
        let data = bytes.checked_sub(8 + length as u64).ok_or(Reject::Truncated)?;
        let mut header = vec![0; length];
        reader.read_exact(&mut header).map_err(|_| Reject::Truncated)?;
        let Head { shape, metadata, .. } = Head::read(&header, data)?;
        let mut tokens = vec![0; 4 * shape.tokens];
        reader.read_exact(&mut tokens).map_err(|_| Reject::Truncated)?;
        describe(&metadata, &shape, &tokens)
    }
}

fn header_length(bytes: &[u8; 8]) -> Result<usize, Reject> {
    let length = usize::try_from(u64::from_le_bytes(*bytes)).map_err(|_| Reject::Header)?;
    if length > MAX_HEADER { Err(Reject::Header) } else { Ok(length) }
}

fn describe(metadata: &BTreeMap<String, String>, shape: &Shape, tokens: &[u8]) -> Result<Description, Reject> {
    let key = |name| metadata.get(name).and_then(|text| unhex(text)).ok_or(Reject::Header);
    key("digest")?;
    let producer = match metadata.get("producer").map(String::as_str) {
        Some("prefill") => Producer::Prefill,
        Some("decode") => Producer::Decode,
        _ => return Err(Reject::Header),
    };
    let fields = metadata.iter().filter_map(|(tag, value)| Some((tag.strip_prefix("ns.")?.to_owned(), value.clone())));
    Ok(Description {
        key: key("key")?,
        parent: key("parent")?,
        tokens: tokens.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect(),
        namespace: fields.collect(),
        producer,
        hidden: shape.hidden,
    })
}

/// A header that the encoder writes, as far as can be told without the data.
struct Head {
    shape: Shape,
    tensors: Vec<(String, TensorInfo)>,
    metadata: BTreeMap<String, String>,
}

impl Head {
    /// `data`: bytes that follow the header.
    fn read(header: &[u8], data: u64) -> Result<Self, Reject> {
        let parsed: Metadata = serde_json::from_slice(header).map_err(|_| Reject::Header)?;
        let metadata = parsed.metadata().as_ref().ok_or(Reject::Header)?;
        if metadata.get("format").ok_or(Reject::Header)? != FORMAT {
            return Err(Reject::Version);
        }
        match data {
            len if len < parsed.data_len() as u64 => return Err(Reject::Truncated),
            len if len > parsed.data_len() as u64 => return Err(Reject::Size),
            _ => {}
        }
        let (shape, tensors) = Shape::read(&parsed).ok_or(Reject::Header)?;
        let metadata: BTreeMap<String, String> = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        if render(&metadata, &tensors) != header {
            return Err(Reject::Header);
        }
        Ok(Self { shape, tensors, metadata })
    }
}

/// The numbers that a blob's tensors follow from.
struct Shape {
    tokens: usize,
    hidden: Option<usize>,
    element: Element,
    rows: Vec<Row>,
}

impl Shape {
    /// With the tensors that a blob of this shape must have; whether those are the ones found is for the caller to see.
    fn read(parsed: &Metadata) -> Option<(Self, Vec<(String, TensorInfo)>)> {
        let found = parsed.tensors();
        let tokens = *found.get("tokens")?.shape.first()?;
        if !(1..=BLOCK).contains(&tokens) {
            return None;
        }
        let hidden = match found.get("last_hidden") {
            Some(info) => Some(*info.shape.first()?),
            None => None,
        };
        let layers = (found.len() - 1 - hidden.iter().len()) / 2;
        let element = match found.get("k.0") {
            Some(info) if info.dtype == Dtype::U8 => Element::U8,
            _ => Element::F16,
        };
        let rows = (0..layers).map(|layer| {
            Some(Row {
                k: row_bytes(&found, &format!("k.{layer}"), element)?,
                v: row_bytes(&found, &format!("v.{layer}"), element)?,
            })
        });
        let shape = Self { tokens, hidden, element, rows: rows.collect::<Option<_>>()? };
        let tensors = layout(tokens, hidden, element, &shape.rows);
        Some((shape, tensors))
    }
}

fn row_bytes(tensors: &HashMap<String, &TensorInfo>, name: &str, element: Element) -> Option<usize> {
    tensors.get(name)?.shape.get(1)?.checked_mul(element.bytes())
}

/// Names, types, shapes and places of a blob's tensors, in file order. Sizes come from memory that exists, or from a
/// header whose sizes were checked not to overflow.
fn layout(tokens: usize, hidden: Option<usize>, element: Element, rows: &[Row]) -> Vec<(String, TensorInfo)> {
    let mut tensors = Vec::with_capacity(2 + 2 * rows.len());
    let mut end = 0usize;
    let mut push = |name: String, dtype: Dtype, shape: Vec<usize>, bytes: usize| {
        let begin = end;
        end = begin.saturating_add(bytes);
        tensors.push((name, TensorInfo { dtype, shape, data_offsets: (begin, end) }));
    };
    push("tokens".to_owned(), Dtype::U32, vec![tokens], 4 * tokens);
    if let Some(hidden) = hidden {
        push("last_hidden".to_owned(), Dtype::F32, vec![hidden], hidden.saturating_mul(4));
    }
    for (layer, row) in rows.iter().enumerate() {
        for (name, bytes) in [("k", row.k), ("v", row.v)] {
            let shape = vec![tokens, bytes / element.bytes()];
            push(format!("{name}.{layer}"), element.dtype(), shape, bytes.saturating_mul(tokens));
        }
    }
    tensors
}

/// The one header for these values.
fn render(metadata: &BTreeMap<String, String>, tensors: &[(String, TensorInfo)]) -> Vec<u8> {
    let mut header = Map::with_capacity(1 + tensors.len());
    header.insert("__metadata__".to_owned(), json!(metadata));
    header.extend(tensors.iter().map(|(name, info)| (name.clone(), json!(info))));
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    header
}

fn digest(header: &[u8], data: &[&[u8]]) -> Key {
    let mut hash = Sha256::new_with_prefix(header);
    data.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// 64 lower-case hex digits.
pub(super) fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what [`hex`] writes, and nothing else.
pub(super) fn unhex(text: &str) -> Option<Key> {
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
