//! Authenticity of values: a MAC in each, under the store's key.
//!
//! A value's digest proves that it is intact, but anybody can make one. Its MAC proves that somebody with the key wrote
//! it. It is HMAC-SHA-256 (RFC 2104) over the name and the digests, which cover every other byte. A store with a
//! [`Seal`] writes the MAC into every value, and returns [`FORGED`] in place of a value with another MAC. Values in
//! memory have zeros in its place, or the MAC of the store that they came from, since nobody else can write there.
//!
//! Cost: four blocks of SHA-256 a value, whatever its length.

#[cfg(not(target_arch = "wasm32"))]
use std::fmt;
use std::ops::Range;

#[cfg(not(target_arch = "wasm32"))]
use hmac::{Hmac, KeyInit, Mac};
#[cfg(not(target_arch = "wasm32"))]
use sha2::Sha256;

use super::{StoreKey, file, manifest};

/// Returned in place of a value that was written without the key. No reader takes it for a block or a manifest.
#[doc(hidden)]
pub const FORGED: &[u8] = b"forged";

const PURPOSE: &[u8] = b"headstart-mac/1";

/// The message of a MAC, and the MAC's place in the value.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The name, then the digests.
    pub message: Vec<u8>,
    place: Range<usize>,
    is_text: bool,
}

impl Slot {
    /// The slot of the value under `name`, of which at least the start must be present; `None` for bytes that are not a
    /// value of ours.
    pub fn find(name: &StoreKey, value: &[u8]) -> Option<Self> {
        let message = [PURPOSE, name].concat();
        if let Some((digest, place)) = manifest::digest_and_mac(value) {
            return Some(Self { message: [&message, digest].concat(), place, is_text: false });
        }
        let (header, _) = file::split(value).ok()?;
        let place = file::place(header, file::MAC)?;
        let digests = file::digests(header)?.concat();
        Some(Self { message: [message, digests].concat(), place: 8 + place.start..8 + place.end, is_text: true })
    }

    /// The place of the MAC.
    pub fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// The MAC as digits.
    pub fn text(&self, mac: &StoreKey) -> Vec<u8> {
        if self.is_text { file::hex(mac).into_bytes() } else { mac.to_vec() }
    }

    /// The MAC that the value has now.
    pub fn read(&self, value: &[u8]) -> Option<StoreKey> {
        let found = value.get(self.place.clone())?;
        match self.is_text {
            true => file::unhex(str::from_utf8(found).ok()?),
            false => found.try_into().ok(),
        }
    }

    /// The value with this MAC, in three pieces: the bytes before it, the MAC, the bytes after it.
    pub fn fill<'a>(&self, value: &'a [u8], mac: &StoreKey) -> (&'a [u8], Vec<u8>, &'a [u8]) {
        (&value[..self.place.start], self.text(mac), &value[self.place.end..])
    }
}

/// The key of a store.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone)]
pub struct Seal {
    keyed: Hmac<Sha256>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Seal {
    /// Takes a secret of any length. Whoever reads the store can guess a secret that a person made up.
    pub fn new(secret: &[u8]) -> Self {
        Self { keyed: Hmac::new_from_slice(secret).expect("HMAC takes keys of every length") }
    }

    /// HMAC-SHA-256 of a message.
    pub fn mac(&self, message: &[u8]) -> StoreKey {
        self.keyed.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// One of our values under that name, with this key's MAC, in the pieces of [`Slot::fill`].
    pub(super) fn fill<'a>(&self, name: &StoreKey, value: &'a [u8]) -> Option<(&'a [u8], Vec<u8>, &'a [u8])> {
        let slot = Slot::find(name, value)?;
        Some(slot.fill(value, &self.mac(&slot.message)))
    }

    /// Whether the value under that name was written without this key. At least its start must be present. Bytes
    /// without a place for a MAC are not forged: no reader takes them for a block or a manifest.
    pub(super) fn refuses(&self, name: &StoreKey, value: &[u8]) -> bool {
        let Some(slot) = Slot::find(name, value) else { return false };
        let vouches = |mac: StoreKey| self.keyed.clone().chain_update(&slot.message).verify_slice(&mac).is_ok();
        !slot.read(value).is_some_and(vouches)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}
