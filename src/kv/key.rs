//! The one function that names KV: a SHA-256 chain over blocks of tokens, rooted in a namespace.
//!
//! `NS  = H("headstart/ns/1" ‖ for each field: len(tag) ‖ tag ‖ len(value) ‖ value)`
//! `H_i = H("headstart/blk/1" ‖ H_{i-1} or NS ‖ n ‖ tokens)`, lengths u64-LE, `n` and tokens u32-LE.
//!
//! Two keys are equal exactly if every field, and every token before and in the block, is equal: lengths and tags keep bytes of
//! one field, or one block, from being read as another's. Every tier (GPU, memory, disk, remote, pack) uses these keys, so a
//! change of one byte in the layout needs a new version in the prefix. Cost: two SHA-256 compressions for each page.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// Tokens in one page of KV.
pub const PAGE: usize = 16;

/// A SHA-256 digest that names a namespace, or a block together with everything before it.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 32]);

impl Key {
    /// The key of `tokens` (1 to `PAGE` of them) after `parent`, which is the key of the previous block or, for the first, of
    /// the namespace.
    pub fn block(parent: &Key, tokens: &[u32]) -> Key {
        debug_assert!((1..=PAGE).contains(&tokens.len()));
        let mut hash = Sha256::new_with_prefix(b"headstart/blk/1");
        hash.update(parent.0);
        hash.update((tokens.len() as u32).to_le_bytes());
        for token in tokens {
            hash.update(token.to_le_bytes());
        }
        Key(hash.finalize().into())
    }

    /// The keys of all blocks of `tokens` in order; the last block may be partial.
    pub fn chain(namespace: &Namespace, tokens: &[u32]) -> impl Iterator<Item = Key> {
        tokens.chunks(PAGE).scan(namespace.key(), |parent, block| {
            *parent = Key::block(parent, block);
            Some(*parent)
        })
    }

    /// The key of a whole token sequence: that of its last block, or of the namespace if there are no tokens.
    pub fn of(namespace: &Namespace, tokens: &[u32]) -> Key {
        Key::chain(namespace, tokens).last().unwrap_or(namespace.key())
    }

    /// Parses the 64 hex digits that `Display` writes; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Key> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Some(Key(key))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// All that KV values depend on besides the tokens, and the salt that keeps tenants apart.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Digest of the weights file or files.
    pub weights: String,
    /// The architecture and its dimensions.
    pub architecture: String,
    /// RoPE base, scaling and dimensions.
    pub rope: String,
    /// The number format of keys and values.
    pub kv_dtype: String,
    /// The order of their elements, with a version.
    pub kv_layout: String,
    /// Digest of an adapter (LoRA) on top of the weights; empty without one.
    pub adapter: String,
    /// Keeps tenants apart; empty without one.
    pub salt: String,
    /// Changes whenever prefill kernels may compute other bits from the same input.
    pub numerics: String,
}

impl Fields {
    /// Tags and values in the order in which they are hashed.
    pub fn entries(&self) -> [(&'static str, &str); 8] {
        [
            ("weights", &self.weights),
            ("architecture", &self.architecture),
            ("rope", &self.rope),
            ("kv_dtype", &self.kv_dtype),
            ("kv_layout", &self.kv_layout),
            ("adapter", &self.adapter),
            ("salt", &self.salt),
            ("numerics", &self.numerics),
        ]
    }

    /// Rebuilds fields from [`Fields::entries`] in any order. `None` if a tag is missing, unknown or repeated.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut values: [Option<&str>; 8] = [None; 8];
        let tags = Self::default().entries().map(|entry| entry.0);
        for (tag, value) in entries {
            let at = tags.iter().position(|known| *known == tag)?;
            if values[at].replace(value).is_some() {
                return None;
            }
        }
        let mut values = values.into_iter().map(|value| value.map(str::to_owned));
        let mut next = || values.next()?;
        Some(Self {
            weights: next()?,
            architecture: next()?,
            rope: next()?,
            kv_dtype: next()?,
            kv_layout: next()?,
            adapter: next()?,
            salt: next()?,
            numerics: next()?,
        })
    }
}

/// The root of a hash chain. Cheap to clone.
#[derive(Clone)]
pub struct Namespace {
    fields: Arc<Fields>,
    key: Key,
    tenant: Key,
}

impl Namespace {
    #[doc(hidden)]
    pub fn new(fields: Fields) -> Self {
        let mut hash = Sha256::new_with_prefix(b"headstart/ns/1");
        for (tag, value) in fields.entries() {
            for part in [tag, value] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        let tenant = Key(Sha256::digest(&fields.salt).into());
        Self { fields: Arc::new(fields), key: Key(hash.finalize().into()), tenant }
    }

    #[doc(hidden)]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    #[doc(hidden)]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Identifies the salt, whatever the model. Quotas are kept by it.
    pub(crate) fn tenant(&self) -> Key {
        self.tenant
    }

    /// The first field, in hashing order, in which two namespaces differ; the salt only if nothing else does.
    #[doc(hidden)]
    pub fn difference(&self, other: &Namespace) -> Option<&'static str> {
        let mut changed = self.differences(other);
        let first = changed.next()?;
        Some(if first == "salt" { changed.next().unwrap_or(first) } else { first })
    }

    /// The fields in which two namespaces differ, in hashing order.
    pub(crate) fn differences<'a>(&'a self, other: &'a Namespace) -> impl Iterator<Item = &'static str> + 'a {
        let pairs = self.fields.entries().into_iter().zip(other.fields.entries());
        pairs.filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0)
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Namespace {}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({:?})", self.key)
    }
}
