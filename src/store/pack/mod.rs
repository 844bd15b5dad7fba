//! The KV of a whole token prefix as one file that can be shared: any headstart with the same model can read it.
//!
//! The container is that of blocks (see [`super::file`]), with any number of tokens. Besides the namespace,
//! `__metadata__` holds the name, the key of all tokens, the producer and, if wanted, the start of the text.
//!
//! Invariants: a pack and the consecutive blocks that it was made of convert into each other byte for byte, except for
//! the hidden states of blocks before the last. Keys are derived from the tokens by a rule that the caller supplies
//! ([`BlockKeys`]), and never taken from the file. A [`Pack`] is consistent in itself; only [`Pack::check`] tells
//! whether it belongs to this model.
//!
//! Cost: the bytes are held once. Making a pack and reading one each take one SHA-256 over them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use super::StoreKey;
use super::blob::{BLOCK, Blob, Producer, Reject};
use super::digest::sha256;
use super::file::{self, Element, Head, Row, SIGNATURE, Shape, hex, words};

mod error;
mod signature;
mod store;

pub use error::{PackDifference, PackError};
pub use signature::{PackKey, PackSigner};
pub use store::PackStore;

const FORMAT: &str = "headstart-pack/1";
const FIELDS: [&str; 10] =
    ["device", "digest", "format", "key", "name", "producer", "signature", "start", "text", "windows"];
const MAX_NAME: usize = 128;
const MAX_TEXT: usize = 1024;
const MAX_DEVICE: usize = 256;

/// How blocks are named.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct BlockKeys<'a> {
    /// The parent of the first block: the key of the namespace.
    pub root: StoreKey,
    /// The key of a block's tokens after its parent.
    pub block: &'a dyn Fn(&StoreKey, &[u32]) -> StoreKey,
}

impl BlockKeys<'_> {
    /// The root, followed by the keys of all blocks of `tokens`.
    fn chain(&self, tokens: &[u32]) -> Vec<StoreKey> {
        let mut keys = vec![self.root];
        for block in tokens.chunks(BLOCK) {
            keys.push((self.block)(&keys[keys.len() - 1], block));
        }
        keys
    }
}

/// Limits above which a pack is refused before anything is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackLimits {
    /// Bytes of the whole file.
    pub bytes: u64,
    /// Tokens of the prefix.
    pub tokens: usize,
}

impl Default for PackLimits {
    /// 2 GiB and a million tokens.
    fn default() -> Self {
        Self { bytes: 2 << 30, tokens: 1 << 20 }
    }
}

/// What a pack must match to serve a model. It borrows, so that asking copies nothing.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct PackExpected<'a> {
    /// In the order in which differences are reported.
    pub namespace: &'a [(&'a str, &'a str)],
    pub element: Element,
    pub rows: &'a [Row],
    /// How many of them, the last, are of layers with a window.
    pub windows: usize,
    /// Elements of `last_hidden`, if the pack has one.
    pub hidden: usize,
    /// Elements of a block's state.
    pub state: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
}

/// What a pack's header says. It is unverified: the digest covers the data too.
#[derive(Clone, Debug, PartialEq)]
pub struct PackHeader {
    /// Any single line of 1 to 128 bytes.
    pub name: String,
    /// The start of the text, at most 1 KiB, unescaped: escape it before showing it.
    pub text: Option<String>,
    /// The adapter that computed the KV, at most 256 bytes, unescaped.
    pub device: Option<String>,
    /// The key of all tokens.
    pub key: StoreKey,
    /// Tokens of the prefix.
    pub tokens: usize,
    /// Tag and value of every namespace field.
    pub(crate) namespace: BTreeMap<String, String>,
    /// Which kernels wrote the KV.
    #[doc(hidden)]
    pub producer: Producer,
    /// Elements of `last_hidden`, if there is one.
    pub hidden: Option<usize>,
    pub(crate) element: Element,
    pub(crate) rows: Vec<Row>,
    /// How many of them, the last, are of layers with a window.
    pub(crate) windows: usize,
    /// Elements of the states of all blocks, one after another.
    pub(crate) state: usize,
    /// Bytes of the whole file.
    pub bytes: u64,
    digest: StoreKey,
    signature: Option<String>,
}

impl PackHeader {
    /// Reads the header of a file of `bytes` bytes; `read` fills a buffer from an offset on.
    pub async fn load<E: Display>(
        bytes: u64,
        limits: &PackLimits,
        mut read: impl AsyncFnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, PackError> {
        let start = start(bytes, limits, &mut read).await?;
        Ok(Self::parse(&start[8..], bytes, limits)?.0)
    }

    fn parse(header: &[u8], bytes: u64, limits: &PackLimits) -> Result<(Self, Head), PackError> {
        let data = bytes.checked_sub(8 + header.len() as u64).ok_or(Reject::Truncated)?;
        let head = Head::read(header, data, FORMAT, usize::MAX)?;
        let tokens = head.shape.tokens;
        if tokens > limits.tokens {
            return Err(PackError::TooLarge { what: "tokens", found: tokens as u64, most: limits.tokens as u64 });
        }
        let name = head.text("name")?.to_owned();
        let [text, device] = ["text", "device"].map(|field| head.metadata.get(field).cloned());
        let longer = |text: &Option<String>, most| text.as_ref().is_some_and(|text| text.len() > most);
        let known = |field: &String| FIELDS.contains(&field.as_str()) || field.starts_with("ns.");
        if !is_name(&name) || longer(&text, MAX_TEXT) || longer(&device, MAX_DEVICE) || !head.metadata.keys().all(known)
        {
            return Err(Reject::Header.into());
        }
        let Shape { hidden, element, rows, windows, state, .. } = head.shape.clone();
        let header = Self {
            name,
            text,
            device,
            key: head.key("key")?,
            tokens,
            namespace: head.namespace(),
            producer: Producer::read(&head)?,
            hidden,
            element,
            rows,
            windows,
            state,
            bytes,
            digest: head.digest,
            signature: head.vouchers.get(SIGNATURE).cloned(),
        };
        Ok((header, head))
    }

    /// Checks that a pack with this header fits the model, apart from its tokens.
    #[doc(hidden)]
    pub fn check(&self, expected: &PackExpected<'_>) -> Result<(), PackError> {
        self.check_namespace(expected.namespace)?;
        let differs = |what: String, theirs: String, ours: String| Err(PackError::Layout { what, theirs, ours });
        let (layers, expected_layers) = (self.rows.len(), expected.rows.len());
        if layers != expected_layers {
            return differs("its layers".to_owned(), layers.to_string(), expected_layers.to_string());
        }
        if self.element != expected.element {
            let name = |element: Element| element.name().to_owned();
            return differs("its element type".to_owned(), name(self.element), name(expected.element));
        }
        let width = |row: &Row| format!("{} bytes of K and {} of V a token", row.k, row.v);
        if let Some(layer) = (0..layers).find(|&layer| self.rows[layer] != expected.rows[layer]) {
            return differs(format!("layer {layer}"), width(&self.rows[layer]), width(&expected.rows[layer]));
        }
        if self.windows != expected.windows {
            let what = "the layers that see a window".to_owned();
            return differs(what, self.windows.to_string(), expected.windows.to_string());
        }
        let (state, expected_state) = (self.state, expected.state * self.tokens.div_ceil(BLOCK));
        if state != expected_state {
            return differs("the size of its states".to_owned(), state.to_string(), expected_state.to_string());
        }
        match self.hidden {
            Some(hidden) if hidden != expected.hidden => {
                differs("the size of last_hidden".to_owned(), hidden.to_string(), expected.hidden.to_string())
            }
            _ => Ok(()),
        }
    }

    /// The first differing field, in the expected order, and beside it those that flags choose, so that one run can mend them
    /// all; the salt only if nothing else differs.
    fn check_namespace(&self, expected: &[(&str, &str)]) -> Result<(), PackError> {
        let ours = |tag: &str| expected.iter().find(|field| field.0 == tag).map(|field| field.1);
        let theirs = |tag: &str| self.namespace.get(tag).map(String::as_str);
        let tags = expected.iter().map(|field| field.0);
        let tags = tags.chain(self.namespace.keys().map(String::as_str).filter(|tag| ours(tag).is_none()));
        let (salt, fields): (Vec<&str>, Vec<&str>) =
            tags.filter(|tag| ours(tag) != theirs(tag)).partition(|tag| *tag == "salt");
        let (chosen, given): (Vec<&str>, Vec<&str>) =
            fields.into_iter().partition(|tag| ["kv_dtype", "numerics"].contains(tag));
        let told = given.into_iter().take(1).chain(chosen);
        let differences: Vec<_> = told.map(|tag| PackDifference::new(tag, theirs(tag), ours(tag))).collect();
        match (differences.is_empty(), salt.is_empty()) {
            (false, _) => Err(PackError::Namespace(differences)),
            (true, false) => Err(PackError::Salt),
            (true, true) => Ok(()),
        }
    }
}

/// A prefix of one or more tokens as its file, intact and verified.
#[derive(Clone, PartialEq)]
pub struct Pack {
    header: PackHeader,
    tokens: Vec<u32>,
    file: Vec<u8>,
    /// Where in the file the data begin.
    data: usize,
}

impl Pack {
    /// Joins consecutive blocks, beginning after the root. Only the last block may be partial, and only its hidden
    /// state is kept. `device` is the adapter that computed the blocks. Only the start of `text` and of `device` is
    /// kept.
    #[doc(hidden)]
    pub fn from_blobs(
        name: &str,
        text: Option<&str>,
        device: Option<&str>,
        blobs: &[Blob],
        keys: &BlockKeys<'_>,
    ) -> Result<Self, PackError> {
        let (Some(first), Some(last)) = (blobs.first(), blobs.last()) else { return Err(PackError::Empty) };
        if !is_name(name) {
            return Err(PackError::Name { name: name.to_owned(), most: MAX_NAME });
        }
        let mut parent = keys.root;
        for (block, blob) in blobs.iter().enumerate() {
            let fail = |problem| Err(PackError::Blocks { block, problem });
            let width: usize = blob.rows.iter().map(|row| row.k + row.v).sum();
            let full = if block + 1 == blobs.len() { 1..=BLOCK } else { BLOCK..=BLOCK };
            match () {
                _ if !full.contains(&blob.tokens.len()) => return fail("only the last may hold fewer than 16 tokens"),
                _ if blob.parent != parent => return fail("it does not follow the one before"),
                _ if blob.key != (keys.block)(&parent, &blob.tokens) => {
                    return fail("its key is not that of its tokens");
                }
                _ if blob.namespace != first.namespace => return fail("it is of another namespace than the first"),
                _ if (blob.element, &blob.rows, blob.windows) != (first.element, &first.rows, first.windows) => {
                    return fail("its layers are not those of the first");
                }
                _ if blob.state.len() != first.state.len() => {
                    return fail("its state is not as long as that of the first");
                }
                _ if blob.kv.len() != width * blob.tokens.len() => return fail("its KV is not as long as its tokens"),
                _ if blob.producer != first.producer => {
                    return fail("decoding wrote it or those before, but not both; warm the whole prefix first");
                }
                _ => parent = blob.key,
            }
        }

        let mut data: Vec<u8> =
            blobs.iter().flat_map(|blob| &blob.tokens).flat_map(|token| token.to_le_bytes()).collect();
        data.extend(last.last_hidden.iter().flatten().flat_map(|value| value.to_le_bytes()));
        let shape = Shape {
            tokens: blobs.iter().map(|blob| blob.tokens.len()).sum(),
            hidden: last.last_hidden.as_ref().map(Vec::len),
            element: first.element,
            rows: first.rows.clone(),
            windows: first.windows,
            state: blobs.len() * first.state.len(),
        };
        let key = hex(&last.key);
        let mut metadata =
            vec![("format", FORMAT), ("key", &*key), ("name", name), ("producer", first.producer.name())];
        let start = |text: &'_ str, most| text.floor_char_boundary(most);
        metadata.extend(text.map(|text| ("text", &text[..start(text, MAX_TEXT)])));
        metadata.extend(device.map(|device| ("device", &device[..start(device, MAX_DEVICE)])));
        let layers = (0..first.rows.len()).flat_map(|layer| {
            let k = blobs.iter().map(move |blob| blob.k(layer));
            k.chain(blobs.iter().map(move |blob| blob.v(layer)))
        });
        data.extend(blobs.iter().flat_map(|blob| &blob.state).flat_map(|value| value.to_le_bytes()));
        let parts = std::iter::once(&data[..]).chain(layers);
        let file = file::draft(&shape, &first.namespace, &metadata, parts).finish();
        Ok(Self::open(file, &PackLimits::default())?.0)
    }

    /// Reads a consistent pack, of whatever model.
    pub fn read(file: Vec<u8>, limits: &PackLimits) -> Result<Self, PackError> {
        let (pack, head) = Self::open(file, limits)?;
        let digested = head.digested(pack.data());
        digested.check(&sha256(digested.covered()))?;
        pack.check_numbers()?;
        Ok(pack)
    }

    fn check_numbers(&self) -> Result<(), PackError> {
        let PackHeader { tokens, hidden, state, element, .. } = self.header;
        let (floats, halves) = self.data()[4 * tokens..].split_at(4 * (hidden.unwrap_or(0) + state));
        let are_numbers = words(floats).all(|word| f32::from_le_bytes(word).is_finite())
            && (element != Element::F16 || file::halves_are_finite(halves));
        if are_numbers { Ok(()) } else { Err(Reject::NotFinite.into()) }
    }

    /// As [`Pack::read`], for a file of `bytes` bytes; `read` fills a buffer from an offset on. The header is checked
    /// before anything is allocated for the data.
    pub async fn load<E: Display>(
        bytes: u64,
        limits: &PackLimits,
        mut read: impl AsyncFnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Self, PackError> {
        let start = start(bytes, limits, &mut read).await?;
        PackHeader::parse(&start[8..], bytes, limits)?;
        let mut file = vec![0; bytes as usize];
        let (head, data) = file.split_at_mut(start.len());
        head.copy_from_slice(&start);
        read(start.len() as u64, data).await.map_err(PackError::read)?;
        Self::read(file, limits)
    }

    /// Checks everything but the digest.
    fn open(file: Vec<u8>, limits: &PackLimits) -> Result<(Self, Head), PackError> {
        check_bytes(file.len() as u64, limits)?;
        let (header, data) = file::split(&file)?;
        let (header, head) = PackHeader::parse(header, file.len() as u64, limits)?;
        let tokens = words(&data[..4 * header.tokens]).map(u32::from_le_bytes).collect();
        let data = file.len() - data.len();
        Ok((Self { header, tokens, file, data }, head))
    }

    /// Its header.
    pub fn header(&self) -> &PackHeader {
        &self.header
    }

    /// The tokens whose KV it holds, from the first on.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The file. Equal packs have equal bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.file
    }

    /// Hidden state of the last token before the LM head.
    #[doc(hidden)]
    pub fn last_hidden(&self) -> Option<Vec<f32>> {
        let begin = 4 * self.header.tokens;
        let hidden = self.header.hidden?;
        Some(words(&self.data()[begin..begin + 4 * hidden]).map(f32::from_le_bytes).collect())
    }

    /// Checks that this pack belongs to the model.
    #[doc(hidden)]
    pub fn check(&self, expected: &PackExpected<'_>) -> Result<(), PackError> {
        self.header.check(expected)?;
        match self.tokens.iter().position(|&token| token as usize >= expected.vocab) {
            Some(index) => Err(PackError::Token { index, token: self.tokens[index], vocab: expected.vocab }),
            None => Ok(()),
        }
    }

    /// The blocks of the prefix from the root on, one at a time. Fails if the pack's key is not that of its tokens.
    #[doc(hidden)]
    pub fn blobs(&self, keys: &BlockKeys<'_>) -> Result<impl Iterator<Item = Blob>, PackError> {
        let keys = self.keys(keys)?;
        Ok((0..keys.len() - 1).map(move |block| self.blob(block, &keys)))
    }

    /// The same tokens and KV under another salt. `keys` are the keys under that salt.
    pub(crate) fn under(mut self, salt: &str, keys: &BlockKeys<'_>) -> Self {
        self.header.namespace.insert("salt".to_owned(), salt.to_owned());
        self.header.key = *keys.chain(&self.tokens).last().expect("the root at least");
        self
    }

    /// The root, followed by the key of every block.
    pub(crate) fn keys(&self, keys: &BlockKeys<'_>) -> Result<Vec<StoreKey>, PackError> {
        let keys = keys.chain(&self.tokens);
        if keys.last() == Some(&self.header.key) { Ok(keys) } else { Err(PackError::Key) }
    }

    /// The block of this index; `keys` as [`Pack::keys`] gives them.
    pub(super) fn blob(&self, block: usize, keys: &[StoreKey]) -> Blob {
        let end = self.tokens.len().min((block + 1) * BLOCK);
        let tokens = block * BLOCK..end;
        let rows = &self.header.rows;
        let mut kv = Vec::with_capacity(rows.iter().map(|row| row.k + row.v).sum::<usize>() * tokens.len());
        let states = 4 * (self.tokens.len() + self.header.hidden.unwrap_or(0));
        let mut begin = states + 4 * self.header.state;
        for width in rows.iter().flat_map(|row| [row.k, row.v]) {
            let Range { start, end } = tokens;
            kv.extend(&self.data()[begin + start * width..begin + end * width]);
            begin += self.tokens.len() * width;
        }
        let state = self.header.state / self.tokens.len().div_ceil(BLOCK);
        let own = &self.data()[states + block * 4 * state..][..4 * state];
        Blob {
            key: keys[block + 1],
            parent: keys[block],
            tokens: self.tokens[tokens].to_vec(),
            namespace: self.header.namespace.clone(),
            producer: self.header.producer,
            last_hidden: if end == self.tokens.len() { self.last_hidden() } else { None },
            element: self.header.element,
            rows: rows.clone(),
            windows: self.header.windows,
            kv,
            state: words(own).map(f32::from_le_bytes).collect(),
        }
    }

    fn data(&self) -> &[u8] {
        &self.file[self.data..]
    }
}

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.header.fmt(f)
    }
}

/// Length and header of a file.
async fn start<E: Display>(
    bytes: u64,
    limits: &PackLimits,
    read: &mut impl AsyncFnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<Vec<u8>, PackError> {
    check_bytes(bytes, limits)?;
    if bytes < 8 {
        return Err(Reject::Truncated.into());
    }
    let mut length = [0; 8];
    read(0, &mut length).await.map_err(PackError::read)?;
    let header = file::header_length(&length)?;
    if bytes - 8 < header as u64 {
        return Err(Reject::Truncated.into());
    }
    let mut start = vec![0; 8 + header];
    start[..8].copy_from_slice(&length);
    read(8, &mut start[8..]).await.map_err(PackError::read)?;
    Ok(start)
}

/// A length, checked to fit memory.
fn check_bytes(bytes: u64, limits: &PackLimits) -> Result<(), PackError> {
    let most = limits.bytes.min(isize::MAX as u64);
    if bytes > most { Err(PackError::TooLarge { what: "bytes", found: bytes, most }) } else { Ok(()) }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}
