//! Protection of remote values: whoever can read or write the store learns nothing and changes nothing.
//!
//! With a secret, a name is the HMAC-SHA-256 of the key, so that nobody can look up a guessed text. A value is
//! `headstart-sealed/1`, the length of its head (u32, little-endian), a nonce of 12 random bytes, the head encrypted
//! with AES-256-GCM, and the rest in clear. The name and everything before the head are the additional authenticated
//! data. The head of a block is everything before its KV: tokens, salt, hidden state, and the digest that covers the
//! KV. With encryption of the KV, and for a manifest, the head is the whole value: the KV of the first layer reveals
//! tokens to whoever has the weights.
//!
//! Others' values have names that a secret does not lead to, so a wrong secret looks like an empty store. Writers
//! therefore leave two [`MARKS`], one under the same name whatever the secret: who finds that one alone has another
//! secret than the others. The marks are looked up, never read.
//!
//! A trusted store keeps names and values as a cache directory does, and its values are accepted as they are, unless
//! they are infinite or NaN.
//!
//! Cost: a copy of every value that is put, and AES over heads in place. Values that are read are not copied again. Two
//! short values more are put with the first one, and again when half of their time to live has passed.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::store::blob::{self, Blob};
use crate::store::manifest::{self, Manifest, is_manifest};
use crate::store::{BoxFuture, Bytes, FORGED, Seal, Store, StoreAnswer, StoreError, StoreKey, StoreUsage};

const MAGIC: &[u8] = b"headstart-sealed/1";
const NONCE: usize = 12;
const TAG: usize = 16;
/// Bytes before the head.
const FRONT: usize = MAGIC.len() + 4 + NONCE;

/// The keys of the marks that writers with a secret leave: whatever the secret, and under this one. The first is its own
/// name, and the name of the second is an HMAC like any other.
pub(super) const MARKS: [StoreKey; 2] = [*b"headstart-sealed/1 of any secret", *b"headstart-sealed/1 of our secret"];

/// Whom a remote store is shared with.
#[derive(Clone)]
pub enum Guard {
    /// With whoever has this secret. Others can neither look up names, nor read tokens and salts, nor influence an
    /// answer.
    Secret {
        /// At least 16 bytes that nobody can guess.
        secret: Vec<u8>,
        /// Whether to encrypt the KV too. Otherwise whoever has the weights can compute the tokens from it.
        encrypt: bool,
    },
    /// With whoever can reach the store. They can read everything in it and choose what is answered. KV computed from
    /// it is no more trustworthy, so keep none of it in a store with a MAC.
    Trust,
}

/// A store behind its guard.
pub(super) struct Sealed<S> {
    store: S,
    keys: Option<Keys>,
    /// Time to live of values that are put without one.
    ttl: Duration,
    /// When the marks were last left, and half of their time to live.
    marked: Cell<Option<(Instant, Duration)>>,
    /// Values that were put, and their bytes. Marks are not counted.
    written: Cell<(u64, u64)>,
}

struct Keys {
    names: Seal,
    cipher: LessSafeKey,
    encrypt: bool,
}

impl<S: Store> Sealed<S> {
    pub(crate) fn new(store: S, guard: &Guard, ttl: Duration) -> Self {
        let keys = match guard {
            Guard::Trust => None,
            Guard::Secret { secret, encrypt } => {
                let of = |purpose: &[u8]| Seal::new(secret).mac(purpose);
                let cipher = UnboundKey::new(&AES_256_GCM, &of(b"headstart cipher/1")).expect("a key of 32 bytes");
                let names = Seal::new(&of(b"headstart names/1"));
                Some(Keys { names, cipher: LessSafeKey::new(cipher), encrypt: *encrypt })
            }
        };
        Self { store, keys, ttl, marked: Cell::default(), written: Cell::default() }
    }

    fn name(&self, key: &StoreKey) -> StoreKey {
        let Some(keys) = self.keys.as_ref().filter(|_| *key != MARKS[0]) else { return *key };
        let name = keys.names.mac(key);
        if is_manifest(key) { manifest::marked(name) } else { name }
    }

    fn names(&self, keys: &[StoreKey]) -> Vec<StoreKey> {
        keys.iter().map(|key| self.name(key)).collect()
    }

    /// Leaves the marks, and leaves them again before they expire. A mark that cannot be left is missed by nobody but
    /// those with another secret.
    async fn mark(&self, ttl: Option<Duration>) {
        if self.keys.is_none() || self.marked.get().is_some_and(|(marked, half)| marked.elapsed() < half) {
            return;
        }
        self.marked.set(Some((Instant::now(), ttl.unwrap_or(self.ttl) / 2)));
        // Ours first, so that nobody with this secret finds the other alone.
        for key in MARKS.iter().rev() {
            let _ = self.store.put(&self.name(key), &Bytes::from_static(MAGIC), ttl).await;
        }
    }

    /// Opens the value under a name, or its start.
    fn open(&self, name: &StoreKey, value: Bytes) -> Opened {
        match &self.keys {
            Some(keys) => keys.open(name, value),
            None if is_manifest(name) || blob::is_finite(&value) => Opened::Whole(value),
            None => Opened::Forged,
        }
    }

    async fn opened(&self, name: &StoreKey, value: Option<Bytes>) -> Result<Option<Bytes>, StoreError> {
        let Some(value) = value else { return Ok(None) };
        let opened = match self.open(name, value) {
            // The whole value is encrypted, so no part of it can be decrypted alone.
            Opened::Short => match self.store.get(name).await? {
                Some(value) => self.open(name, value),
                None => return Ok(None),
            },
            opened => opened,
        };
        Ok(Some(if let Opened::Whole(value) = opened { value } else { Bytes::from_static(FORGED) }))
    }
}

enum Opened {
    Whole(Bytes),
    /// More bytes are needed.
    Short,
    Forged,
}

impl Keys {
    /// `head` is the number of bytes to encrypt.
    fn seal(&self, name: &StoreKey, value: &[u8], head: usize) -> Bytes {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).expect("the system has random bytes");
        let mut sealed = Vec::with_capacity(FRONT + value.len() + TAG);
        sealed.extend(MAGIC);
        sealed.extend((head as u32).to_le_bytes());
        sealed.extend(nonce);
        sealed.extend(&value[..head]);
        let (front, hidden) = sealed.split_at_mut(FRONT);
        let vouched = Aad::from([&front[..FRONT - NONCE], name].concat());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.cipher.seal_in_place_separate_tag(nonce, vouched, hidden).expect("less than 64 GiB");
        sealed.extend(tag.as_ref());
        sealed.extend(&value[head..]);
        sealed.into()
    }

    fn open(&self, name: &StoreKey, sealed: Bytes) -> Opened {
        let mut sealed = BytesMut::from(sealed);
        let Some((front, _)) = sealed.split_at_checked(FRONT).filter(|(front, _)| front.starts_with(MAGIC)) else {
            return Opened::Forged;
        };
        let vouched = Aad::from([&front[..FRONT - NONCE], name].concat());
        let (head, nonce) = front[MAGIC.len()..].split_at(4);
        let head = head.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let nonce: [u8; NONCE] = nonce.try_into().expect("what follows the length");
        let Some(hidden) = sealed.get_mut(FRONT..).and_then(|rest| rest.get_mut(..head.checked_add(TAG)?)) else {
            return Opened::Short;
        };
        if self.cipher.open_in_place(Nonce::assume_unique_for_key(nonce), vouched, hidden).is_err() {
            return Opened::Forged;
        }
        sealed.copy_within(FRONT..FRONT + head, FRONT + TAG);
        Opened::Whole(sealed.freeze().slice(FRONT + TAG..))
    }
}

/// How many bytes of a value must be encrypted besides the KV. Fails unless the value is an intact block or manifest of
/// that name, so that a local fault does not spread.
fn head(store: &'static str, key: &StoreKey, value: &[u8]) -> Result<usize, StoreError> {
    let fault = |problem: String| StoreError::Backend { store, problem };
    if is_manifest(key) {
        let whole = Manifest::decode(key, value).map(|_| value.len());
        return whole.ok_or_else(|| fault("a manifest was damaged before it was sent".into()));
    }
    match Blob::parse(value) {
        Ok(blob) if blob.key == *key => Ok(value.len() - blob.kv.len()),
        Ok(_) => Err(fault("a block would have been sent under the name of another".into())),
        Err(reason) => Err(fault(format!("a block was damaged before it was sent: {reason}"))),
    }
}

impl<S: Store> Store for Sealed<S> {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    fn get<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, Option<Bytes>> {
        Box::pin(async move {
            let name = Sealed::name(self, key);
            self.opened(&name, self.store.get(&name).await?).await
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [StoreKey], most: usize) -> StoreAnswer<'a, Vec<Option<Bytes>>> {
        Box::pin(async move {
            let names = self.names(keys);
            let most = if self.keys.is_some() { most.saturating_add(FRONT + TAG) } else { most };
            let mut values = Vec::with_capacity(names.len());
            for (name, value) in names.iter().zip(self.store.get_many(&names, most).await?) {
                values.push(self.opened(name, value).await?);
            }
            Ok(values)
        })
    }

    fn put<'a>(&'a self, key: &'a StoreKey, bytes: &'a Bytes, ttl: Option<Duration>) -> StoreAnswer<'a, ()> {
        Box::pin(async move {
            let head = head(self.store.name(), key, bytes)?;
            let name = Sealed::name(self, key);
            let value = match &self.keys {
                None => bytes.clone(),
                Some(keys) => keys.seal(&name, bytes, if keys.encrypt { bytes.len() } else { head }),
            };
            self.store.put(&name, &value, ttl).await?;
            let (values, length) = self.written.get();
            self.written.set((values + 1, length + value.len() as u64));
            self.mark(ttl).await;
            Ok(())
        })
    }

    fn contains<'a>(&'a self, keys: &'a [StoreKey]) -> StoreAnswer<'a, Vec<bool>> {
        Box::pin(async move { self.store.contains(&self.names(keys)).await })
    }

    fn remove<'a>(&'a self, key: &'a StoreKey) -> StoreAnswer<'a, bool> {
        Box::pin(async move { self.store.remove(&Sealed::name(self, key)).await })
    }

    fn clear(&self) -> StoreAnswer<'_, ()> {
        self.marked.set(None);
        self.store.clear()
    }

    fn flush(&self) -> StoreAnswer<'_, ()> {
        self.store.flush()
    }

    fn touch<'a>(&'a self, keys: &'a [StoreKey]) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.store.touch(&self.names(keys)).await })
    }

    fn usage(&self) -> StoreUsage {
        let (written, written_bytes) = self.written.get();
        StoreUsage { written, written_bytes, ..self.store.usage() }
    }

    fn problem(&self) -> Option<String> {
        self.store.problem()
    }
}
