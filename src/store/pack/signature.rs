//! Who made a pack: an Ed25519 signature (RFC 8032) over its digest, which covers every other byte.

use sha2::{Digest, Sha256};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::{Pack, PackError, PackHeader, PackLimits, StoreKey, hex};
use crate::store::Reject;
use crate::store::file::{self, Head, NO_SIGNATURE, SIGNATURE, unhex};

const PURPOSE: &[u8] = b"headstart-pack/1 signature\0";

/// The key that signs packs. A signature says that its holder made the pack.
pub struct PackSigner(SigningKey);

/// The public key that verifies signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackKey(VerifyingKey);

impl PackSigner {
    /// Derives the key from 32 random bytes, which may also serve other purposes.
    pub fn new(secret: &StoreKey) -> Self {
        let own = Sha256::new_with_prefix(b"headstart pack signer/1\0").chain_update(secret).finalize();
        Self(SigningKey::from_bytes(&own.into()))
    }

    /// The public key.
    pub fn key(&self) -> PackKey {
        PackKey(self.0.verifying_key())
    }

    /// 128 hexadecimal digits.
    pub(super) fn sign(&self, digest: &StoreKey) -> String {
        let [first, second] = halves(&self.0.sign(&message(digest)).to_bytes());
        hex(&first) + &hex(&second)
    }
}

impl PackKey {
    /// Parses what [`Display`](std::fmt::Display) shows: 64 hexadecimal digits, of either case.
    pub fn parse(text: &str) -> Option<Self> {
        VerifyingKey::from_bytes(&unhex(&text.to_ascii_lowercase())?).ok().map(Self)
    }

    pub(super) fn verifies(&self, digest: &StoreKey, signature: &str) -> bool {
        let bytes = signature.split_at_checked(64).and_then(|(first, second)| Some([unhex(first)?, unhex(second)?]));
        let signature = bytes.map(|bytes| Signature::from_bytes(bytes.as_flattened().try_into().expect("64 bytes")));
        signature.is_some_and(|signature| self.0.verify_strict(&message(digest), &signature).is_ok())
    }
}

impl std::fmt::Display for PackKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

fn message(digest: &StoreKey) -> Vec<u8> {
    [PURPOSE, digest].concat()
}

fn halves(bytes: &[u8; 64]) -> [StoreKey; 2] {
    let (halves, _) = bytes.as_chunks();
    [halves[0], halves[1]]
}

impl PackHeader {
    /// Checks that one of the `trusted` keys signed the pack. The signature covers the digest; reading the data checks
    /// them against that.
    pub fn check_signature(&self, trusted: &[PackKey]) -> Result<(), PackError> {
        match &self.signature {
            None => Err(PackError::Unsigned),
            Some(signature) if trusted.iter().any(|key| key.verifies(&self.digest, signature)) => Ok(()),
            Some(_) => Err(PackError::Stranger),
        }
    }
}

impl Pack {
    /// The pack with a signature.
    pub fn signed(self, signer: &PackSigner) -> Result<Self, PackError> {
        let (Self { header, file, data, .. }, Head { shape, metadata, .. }) =
            Self::open(self.file, &PackLimits::default())?;
        let own = metadata.iter().filter(|(name, _)| !name.starts_with("ns.") && !file::is_derived(name));
        let mut own: Vec<(&str, &str)> = own.map(|(name, value)| (&**name, &**value)).collect();
        own.retain(|(name, _)| *name != SIGNATURE);
        own.push((SIGNATURE, NO_SIGNATURE));
        let mut file = file::draft(&shape, &header.namespace, &own, [&file[data..]].into_iter()).finish();
        let (head, _) = file::split(&file)?;
        let digest = file::digest(head).ok_or(Reject::Header)?;
        let place = file::place(head, SIGNATURE).ok_or(Reject::Header)?;
        file[8 + place.start..][..NO_SIGNATURE.len()].copy_from_slice(signer.sign(&digest).as_bytes());
        Ok(Self::open(file, &PackLimits::default())?.0)
    }
}
