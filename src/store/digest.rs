//! The digests of a file (see [`super::file`]): what each covers, apart from how it is computed. That takes long, so
//! callers may leave it to threads or to a browser.

use sha2::{Digest, Sha256};

use super::file::{hex, place};
use super::{Reject, StoreKey};

/// The SHA-256 of two pieces, one behind the other.
pub(super) fn sha256([one, two]: [&[u8]; 2]) -> StoreKey {
    Sha256::new_with_prefix(one).chain_update(two).finalize().into()
}

/// Header and data of a file with the digest that it claims.
pub(super) struct Digested<'a> {
    /// With zeros for all that the digest does not cover.
    pub(super) header: Vec<u8>,
    pub(super) data: &'a [u8],
    /// `None`: the file lacks this digest.
    pub(super) digest: Option<StoreKey>,
}

impl Digested<'_> {
    /// What the digest covers, in two pieces.
    pub(super) fn covered(&self) -> [&[u8]; 2] {
        [&self.header, self.data]
    }

    /// Compares the digest with that of [`Digested::covered`].
    pub(super) fn check(&self, found: &StoreKey) -> Result<(), Reject> {
        if self.digest.as_ref() == Some(found) { Ok(()) } else { Err(Reject::Digest) }
    }
}

/// A file whose digests are computed one after another, since each covers those before it.
pub(super) struct Draft {
    pub(super) file: Vec<u8>,
    /// Bytes of the header.
    pub(super) header: usize,
    /// Names of the digests that it lacks, the next one last, each with the bytes of data that it covers.
    pub(super) lacks: Vec<(&'static str, usize)>,
}

impl Draft {
    /// What the next digest covers; `None` if the file has them all.
    pub(super) fn covered(&self) -> Option<&[u8]> {
        let (_, data) = self.lacks.last()?;
        Some(&self.file[8..8 + self.header + data])
    }

    /// Writes the digest of [`Draft::covered`].
    pub(super) fn write(&mut self, digest: &StoreKey) {
        let Some((name, _)) = self.lacks.pop() else { return };
        let header = &mut self.file[8..8 + self.header];
        let place = place(header, name).expect("the header has a field for every digest");
        header[place].copy_from_slice(hex(digest).as_bytes());
    }

    /// The file, with the digests that it lacked.
    pub(super) fn finish(mut self) -> Vec<u8> {
        while let Some(covered) = self.covered() {
            let digest = sha256([covered, &[]]);
            self.write(&digest);
        }
        self.file
    }
}
