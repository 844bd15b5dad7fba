//! Who wrote a value: a MAC in it, under the key of whoever keeps the store.
//!
//! A value's digest says that it is whole; anybody can make one. Its MAC says that it was written by somebody who has the key:
//! HMAC-SHA-256 (RFC 2104) over the name and the digests, which cover every other byte. A store that has a [`Seal`] writes the MAC
//! into what it is given, and answers with [`FORGED`] in place of what has another one. What lies in memory has zeros there, or the MAC of the
//! store that it came from: nobody else writes to it.
//!
//! Cost: four blocks of SHA-256 a value, however long it is.

#[cfg(not(target_arch = "wasm32"))]
use std::fmt;
use std::ops::Range;

#[cfg(not(target_arch = "wasm32"))]
use hmac::{Hmac, KeyInit, Mac};
#[cfg(not(target_arch = "wasm32"))]
use sha2::Sha256;

use super::{Key, file, manifest};

/// What a store answers with in the place of a value that nobody with its key wrote: no block and no manifest to any reader.
#[doc(hidden)]
pub const FORGED: &[u8] = b"forged";

const PURPOSE: &[u8] = b"headstart-mac/1";

/// What a MAC is over, and where in a value it stands.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The name, then the digests.
    pub message: Vec<u8>,
    place: Range<usize>,
    is_text: bool,
}

impl Slot {
    /// That of the value under `name`, of which at least the start is there; `None` of bytes that are no value of ours.
    pub fn find(name: &Key, value: &[u8]) -> Option<Self> {
        let message = [PURPOSE, name].concat();
        if let Some((digest, place)) = manifest::digest_and_mac(value) {
            return Some(Self { message: [&message, digest].concat(), place, is_text: false });
        }
        let (header, _) = file::split(value).ok()?;
        let place = file::place(header, file::MAC)?;
        let digests = file::digests(header)?.concat();
        Some(Self { message: [message, digests].concat(), place: 8 + place.start..8 + place.end, is_text: true })
    }

    /// Where the MAC stands.
    pub fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// As it stands there.
    pub fn text(&self, mac: &Key) -> Vec<u8> {
        if self.is_text { file::hex(mac).into_bytes() } else { mac.to_vec() }
    }

    /// What stands there now.
    pub fn read(&self, value: &[u8]) -> Option<Key> {
        let found = value.get(self.place.clone())?;
        match self.is_text {
            true => file::unhex(str::from_utf8(found).ok()?),
            false => found.try_into().ok(),
        }
    }

    /// The value with that MAC in it, in pieces: before it, it, behind it.
    pub fn fill<'a>(&self, value: &'a [u8], mac: &Key) -> (&'a [u8], Vec<u8>, &'a [u8]) {
        (&value[..self.place.start], self.text(mac), &value[self.place.end..])
    }
}

/// The key of whoever keeps a store.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone)]
pub struct Seal {
    keyed: Hmac<Sha256>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Seal {
    /// A secret of any length; one that people made up can be guessed by whoever reads the store.
    pub fn new(secret: &[u8]) -> Self {
        Self { keyed: Hmac::new_from_slice(secret).expect("HMAC takes keys of every length") }
    }

    /// HMAC-SHA-256 of a message.
    pub fn mac(&self, message: &[u8]) -> Key {
        self.keyed.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// A value of ours under that name with this key's MAC in it, in pieces as [`Slot::fill`] gives them.
    pub(super) fn fill<'a>(&self, name: &Key, value: &'a [u8]) -> Option<(&'a [u8], Vec<u8>, &'a [u8])> {
        let slot = Slot::find(name, value)?;
        Some(slot.fill(value, &self.mac(&slot.message)))
    }

    /// Whether somebody without this key wrote the value under that name, of which at least the start is there. What has no place
    /// for a MAC is nobody's, and no block and no manifest to any reader.
    pub(super) fn refuses(&self, name: &Key, value: &[u8]) -> bool {
        let Some(slot) = Slot::find(name, value) else { return false };
        let vouches = |mac: Key| self.keyed.clone().chain_update(&slot.message).verify_slice(&mac).is_ok();
        !slot.read(value).is_some_and(vouches)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}
