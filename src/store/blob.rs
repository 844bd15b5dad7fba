//! One block of KV as a file: the same bytes natively, in a browser, in memory, on a disk and behind a network.
//!
//! [`super::file`] describes the container and its guarantees. Besides the namespace, `__metadata__` holds the keys of
//! the block and of its parent, the producer, and a MAC that the store writes and checks (see [`super::seal`]). The MAC
//! is not part of the blob.
//!
//! Cost: one SHA-256 of the data to encode and one to decode, and a copy where the caller keeps the data.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use super::StoreKey;
use super::digest::{Digested, Draft, sha256};
use super::file::{self, Element, Head, Known, MAC, MAX_HEADER, NO_MAC, Row, Shape, hex, words};

/// Tokens in a block, at most.
pub const BLOCK: usize = 16;

const FORMAT: &str = "headstart-kv/2";

/// Which kernels computed the KV. Only that of prefill kernels is bit-identical to a cold run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    Prefill,
    Decode,
}

impl Producer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }

    pub(super) fn read(head: &Head) -> Result<Self, Reject> {
        match head.text("producer")? {
            "prefill" => Ok(Self::Prefill),
            "decode" => Ok(Self::Decode),
            _ => Err(Reject::Header),
        }
    }
}

/// The KV of one block, and what it depends on. `K` owns or borrows the bytes of the KV.
#[derive(Clone, Debug, PartialEq)]
pub struct Blob<K = Vec<u8>> {
    pub key: StoreKey,
    /// The key of the block before it; for the first block, of the namespace.
    pub parent: StoreKey,
    /// 1 to [`BLOCK`].
    pub tokens: Vec<u32>,
    /// Tag and value of every namespace field.
    pub namespace: BTreeMap<String, String>,
    pub producer: Producer,
    /// The last token's hidden state before the LM head, if the block ends at a breakpoint.
    pub last_hidden: Option<Vec<f32>>,
    pub element: Element,
    pub rows: Vec<Row>,
    /// How many of the rows, the last, are of layers with a window.
    pub windows: usize,
    /// For every layer with keys and values, K `[n, k]` and then V `[n, v]`, back to back. The start of a block lacks
    /// the layers with a window.
    pub kv: K,
    /// The state of the other layers after the last token; empty if there are none.
    pub state: Vec<f32>,
}

/// What the caller knows of the block that it asks for. It borrows, so that asking copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub key: StoreKey,
    pub parent: StoreKey,
    pub tokens: &'a [u32],
    /// In any order.
    pub namespace: &'a [(&'a str, &'a str)],
    pub element: Element,
    pub rows: &'a [Row],
    /// How many of the rows, the last, are of layers with a window.
    pub windows: usize,
    /// Whether only the layers before those with a window are wanted.
    pub start: bool,
    /// Elements of `last_hidden`, if the blob has one.
    pub hidden: usize,
    /// Elements of `state`.
    pub state: usize,
}

/// What all blocks of a prompt share.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Tag and value of every namespace field.
    pub namespace: Vec<(String, String)>,
    pub element: Element,
    pub rows: Vec<Row>,
    /// How many of the rows, the last, are of layers with a window.
    pub windows: usize,
    /// Elements of a `last_hidden`.
    pub hidden: usize,
    /// Elements of `state`.
    pub state: usize,
}

/// A requested block: an [`Expected`] that owns its data.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub key: StoreKey,
    pub parent: StoreKey,
    pub tokens: Vec<u32>,
    /// Whether only the layers before those with a window are wanted.
    pub start: bool,
    pub family: Arc<Family>,
}

impl From<Expected<'_>> for Wanted {
    fn from(expected: Expected<'_>) -> Self {
        let Expected { key, parent, tokens, namespace, element, rows, windows, start, hidden, state } = expected;
        let namespace = namespace.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
        let family = Family { namespace, element, rows: rows.to_vec(), windows, hidden, state };
        Self { key, parent, tokens: tokens.to_vec(), start, family: Arc::new(family) }
    }
}

impl Wanted {
    pub(super) fn is_start(&self) -> bool {
        self.start && self.family.windows > 0
    }

    pub(super) fn fields(&self) -> Vec<(&str, &str)> {
        self.family.namespace.iter().map(|(tag, value)| (&**tag, &**value)).collect()
    }

    /// `fields`: those of [`Wanted::fields`].
    pub(super) fn expected<'a>(&'a self, fields: &'a [(&'a str, &'a str)]) -> Expected<'a> {
        let Family { element, rows, windows, hidden, state, .. } = &*self.family;
        let (element, windows, hidden, state) = (*element, *windows, *hidden, *state);
        let Self { key, parent, tokens, .. } = self;
        let (key, parent, start) = (*key, *parent, self.is_start());
        Expected { key, parent, tokens, namespace: fields, element, rows, windows, start, hidden, state }
    }

    /// Bytes at the beginning of its file that hold everything wanted.
    pub(super) fn bytes(&self) -> usize {
        let Family { namespace, element, rows, windows, hidden, state } = &*self.family;
        if !self.is_start() {
            return usize::MAX;
        }
        let shape = Shape {
            tokens: self.tokens.len(),
            hidden: Some(*hidden),
            element: *element,
            rows: rows.clone(),
            windows: *windows,
            state: *state,
        };
        let namespace = namespace.iter().cloned().collect();
        file::start_bytes(&shape, &namespace, &metadata(&hex(&self.key), &hex(&self.parent), Producer::Prefill))
    }
}

/// What a file says of its block, without the KV. It is unverified: the digest covers the KV too.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub key: StoreKey,
    pub parent: StoreKey,
    pub tokens: Vec<u32>,
    pub namespace: BTreeMap<String, String>,
    pub producer: Producer,
    /// Elements of `last_hidden`, if the block has one.
    pub hidden: Option<usize>,
}

/// Why bytes are not the requested blob. Rejections are counted and never fail a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// The file is truncated.
    Truncated,
    /// The header is not one that the encoder writes.
    Header,
    /// The format or its version is another one.
    Version,
    /// The size is not the one announced, or not that of this model's blocks.
    Size,
    /// The bytes were altered after they were written.
    Digest,
    /// Intact, but of another model, configuration, adapter or salt.
    Namespace,
    /// Intact, but another block.
    Key,
    /// Intact and of that name, but after other tokens.
    Parent,
    /// Intact and of that name, but of other tokens.
    Tokens,
    /// The layers or widths are not those of this model.
    Layout,
    /// Values are infinite or NaN, which kernels never write.
    NotFinite,
    /// It was written without the store's key.
    Forged,
}

impl Reject {
    pub const ALL: [Self; 12] = [
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
        Self::NotFinite,
        Self::Forged,
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
            Self::NotFinite => "not_finite",
            Self::Forged => "forged",
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn has_mac(head: &Head) -> Result<(), Reject> {
    if head.vouchers.contains_key(MAC) { Ok(()) } else { Err(Reject::Header) }
}

/// Whether all KV values in a file are finite. At least the header must be there; true for what is not a block's file.
/// It is for files without a MAC, and costs a pass over the data.
#[cfg(all(feature = "remote", not(target_arch = "wasm32")))]
pub(super) fn is_finite(bytes: &[u8]) -> bool {
    let Ok((header, data)) = file::split(bytes) else { return true };
    let Ok((Head { shape, .. }, _)) = Head::parse(header, FORMAT, BLOCK) else { return true };
    let begin = 4 * (shape.tokens + shape.hidden.unwrap_or(0) + shape.state);
    shape.element != Element::F16 || file::halves_are_finite(data.get(begin..).unwrap_or_default())
}

fn metadata<'a>(key: &'a str, parent: &'a str, producer: Producer) -> [(&'static str, &'a str); 5] {
    [("format", FORMAT), ("key", key), (MAC, NO_MAC), ("parent", parent), ("producer", producer.name())]
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

    /// Encodes the blob. Equal blobs give equal bytes. Panics if the parts of the blob contradict each other.
    pub fn encode(&self) -> Vec<u8> {
        self.draft().finish()
    }

    /// The encoded blob without its digests.
    pub(super) fn draft(&self) -> Draft {
        assert!((1..=BLOCK).contains(&self.tokens.len()), "a block has 1 to {BLOCK} tokens");
        assert_eq!(self.kv.len(), self.offset(self.rows.len()), "bytes of KV for the rows and tokens of the blob");
        let size = self.element.bytes();
        assert!(self.rows.iter().all(|row| row.k % size == 0 && row.v % size == 0), "rows of whole elements");

        let mut data = Vec::with_capacity(4 * BLOCK + self.last_hidden.as_ref().map_or(0, |h| 4 * h.len()));
        data.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        let floats = self.last_hidden.iter().flatten().chain(&self.state);
        data.extend(floats.flat_map(|value| value.to_le_bytes()));
        let shape = Shape {
            tokens: self.tokens.len(),
            hidden: self.last_hidden.as_ref().map(Vec::len),
            element: self.element,
            rows: self.rows.clone(),
            windows: self.windows,
            state: self.state.len(),
        };
        let (key, parent) = (hex(&self.key), hex(&self.parent));
        let metadata = metadata(&key, &parent, self.producer);
        file::draft(&shape, &self.namespace, &metadata, [&data[..], &self.kv].into_iter())
    }

    /// Decodes the requested blob, or says why these bytes are not it.
    pub fn decode(bytes: &[u8], expected: &Expected<'_>) -> Result<Self, Reject> {
        Blob::view(bytes, expected).map(Blob::into_owned)
    }

    /// Decodes any consistent blob, for listings. Only [`Blob::view`] checks that it is the requested one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        Blob::whole(bytes)?.verify().map(Blob::into_owned)
    }

    /// Reads only the header and the tokens of a blob of `bytes` bytes, for listings. They are unverified, since the
    /// digest covers the KV too. If the reader fails, the blob counts as truncated.
    pub fn describe(reader: &mut dyn Read, bytes: u64) -> Result<Description, Reject> {
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(|_| Reject::Truncated)?;
        let length = file::header_length(&length)?;
        let data = bytes.checked_sub(8 + length as u64).ok_or(Reject::Truncated)?;
        let mut header = vec![0; length];
        reader.read_exact(&mut header).map_err(|_| Reject::Truncated)?;
        let head = Head::read(&header, data, FORMAT, BLOCK)?;
        let mut tokens = vec![0; 4 * head.shape.tokens];
        reader.read_exact(&mut tokens).map_err(|_| Reject::Truncated)?;
        has_mac(&head)?;
        Ok(Description {
            key: head.key("key")?,
            parent: head.key("parent")?,
            tokens: words(&tokens).map(u32::from_le_bytes).collect(),
            namespace: head.namespace(),
            producer: Producer::read(&head)?,
            hidden: head.shape.hidden,
        })
    }
}

/// A blob as its bytes have it, before its digest is compared.
pub(super) struct Claim<'a> {
    digested: Digested<'a>,
    blob: Result<Blob<&'a [u8]>, Reject>,
}

impl<'a> Claim<'a> {
    /// What its digest covers, in two pieces.
    pub(super) fn covered(&self) -> [&[u8]; 2] {
        self.digested.covered()
    }

    /// The blob, if `found` is the digest of what it covers.
    pub(super) fn open(self, found: &StoreKey) -> Result<Blob<&'a [u8]>, Reject> {
        self.digested.check(found)?;
        self.blob
    }

    fn verify(self) -> Result<Blob<&'a [u8]>, Reject> {
        let found = sha256(self.covered());
        self.open(&found)
    }
}

impl<'a> Blob<&'a [u8]> {
    /// The requested blob, verified, or why these bytes are not it. Its KV borrows from the bytes; nothing is copied.
    pub fn view(bytes: &'a [u8], expected: &Expected<'_>) -> Result<Self, Reject> {
        Self::claim(bytes, expected)?.verify()
    }

    /// As [`Blob::view`], for a caller that computes the digest.
    pub(super) fn claim(bytes: &'a [u8], expected: &Expected<'_>) -> Result<Claim<'a>, Reject> {
        let width: usize = expected.rows.iter().map(|row| row.k + row.v).sum();
        let data = (4 + width) * expected.tokens.len() + 4 * expected.state;
        if bytes.len() > 8 + MAX_HEADER + data + 4 * expected.hidden {
            return Err(Reject::Size);
        }
        if let Some(claim) = Self::known(bytes, expected) {
            return Ok(claim);
        }
        let Claim { digested, blob } = if expected.start { Self::start(bytes)? } else { Self::whole(bytes)? };
        Ok(Claim { digested, blob: blob.and_then(|blob| blob.requested(expected)) })
    }

    fn requested(self, expected: &Expected<'_>) -> Result<Self, Reject> {
        let fields: BTreeMap<&str, &str> = expected.namespace.iter().copied().collect();
        let same_fields = fields.into_iter().eq(self.namespace.iter().map(|(tag, value)| (&**tag, &**value)));
        let hidden_fits = self.last_hidden.as_ref().is_none_or(|hidden| hidden.len() == expected.hidden);
        match () {
            _ if !same_fields => Err(Reject::Namespace),
            _ if self.key != expected.key => Err(Reject::Key),
            _ if self.parent != expected.parent => Err(Reject::Parent),
            _ if self.tokens != expected.tokens => Err(Reject::Tokens),
            _ if self.rows != expected.rows || self.element != expected.element || !hidden_fits => Err(Reject::Layout),
            _ if self.state.len() != expected.state || self.windows != expected.windows => Err(Reject::Layout),
            _ => self.checked(),
        }
    }

    fn checked(self) -> Result<Self, Reject> {
        let mut floats = self.last_hidden.iter().flatten().chain(&self.state);
        if floats.all(|value| value.is_finite()) { Ok(self) } else { Err(Reject::NotFinite) }
    }

    /// The requested blob, if its header is exactly the one that the encoder would write. Otherwise whoever reads the
    /// header says why it is another one.
    fn known(bytes: &'a [u8], expected: &Expected<'_>) -> Option<Claim<'a>> {
        let Expected { key, parent, tokens, element, rows, windows, start, hidden, state, .. } = *expected;
        let (header, data) = file::split(bytes).ok()?;
        let fields = expected.namespace.iter();
        let namespace: BTreeMap<String, String> =
            fields.map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect();
        let (end, begin) = (hex(&key), hex(&parent));
        let kinds =
            [Producer::Prefill, Producer::Decode].into_iter().flat_map(|kind| [(kind, None), (kind, Some(hidden))]);
        kinds.into_iter().find_map(|(producer, hidden)| {
            let shape = Shape { tokens: tokens.len(), hidden, element, rows: rows.to_vec(), windows, state };
            let known = Known::new(&shape, &namespace, &metadata(&end, &begin, producer));
            let digested = known.digested(header, data, start)?;
            let blob = Self::of(shape, digested.data, (key, parent), namespace.clone(), producer);
            let blob = if blob.tokens == tokens { blob.checked() } else { Err(Reject::Tokens) };
            Some(Claim { digested, blob })
        })
    }

    fn whole(bytes: &'a [u8]) -> Result<Claim<'a>, Reject> {
        let (header, data) = file::split(bytes)?;
        let head = Head::read(header, data.len() as u64, FORMAT, BLOCK)?;
        let digested = head.digested(data);
        Ok(Claim { blob: Self::described(head, data), digested })
    }

    /// Reads the start of a file, without the layers that have a window.
    fn start(bytes: &'a [u8]) -> Result<Claim<'a>, Reject> {
        let (header, data) = file::split(bytes)?;
        let (head, digested) = Head::read_start(header, data, FORMAT, BLOCK)?;
        Ok(Claim { blob: Self::described(head, digested.data), digested })
    }

    fn described(head: Head, data: &'a [u8]) -> Result<Self, Reject> {
        has_mac(&head)?;
        let (keys, producer) = ((head.key("key")?, head.key("parent")?), Producer::read(&head)?);
        let namespace = head.namespace();
        Ok(Self::of(head.shape, data, keys, namespace, producer))
    }

    fn of(
        shape: Shape,
        data: &'a [u8],
        (key, parent): (StoreKey, StoreKey),
        namespace: BTreeMap<String, String>,
        producer: Producer,
    ) -> Self {
        let (tokens, rest) = data.split_at(4 * shape.tokens);
        let (hidden, rest) = rest.split_at(4 * shape.hidden.unwrap_or(0));
        let (state, kv) = rest.split_at(4 * shape.state);
        let floats = |bytes| words(bytes).map(f32::from_le_bytes).collect();
        Self {
            key,
            parent,
            tokens: words(tokens).map(u32::from_le_bytes).collect(),
            namespace,
            producer,
            last_hidden: shape.hidden.map(|_| floats(hidden)),
            element: shape.element,
            rows: shape.rows,
            windows: shape.windows,
            kv,
            state: floats(state),
        }
    }

    /// Owns a copy of the KV.
    pub fn into_owned(self) -> Blob {
        let Self { key, parent, tokens, namespace, producer, last_hidden, element, rows, windows, kv, state } = self;
        let kv = kv.to_vec();
        Blob { key, parent, tokens, namespace, producer, last_hidden, element, rows, windows, kv, state }
    }
}
