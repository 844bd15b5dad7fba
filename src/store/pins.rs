//! Pinned blocks: no process that shares the directory evicts them, and they do not expire.
//!
//! A pin is a text file `pins/NAME.pin`: the format, the SHA-256 of the rest, and one line a key. It names blocks and
//! holds none. Blocks that are missing when it is made are kept once they are stored. It is written to a temporary
//! file, synced (pins are rare and made on request) and renamed. A file that differs in any byte from what the writer
//! would write is skipped and counted. It stays until it is unpinned or pinned again.
//!
//! Invariants: no block that a readable pin names is removed, except by `remove`, `clear` or because its file is
//! damaged. Pins made by this store hold at most their share of the budget. Pins of another process with a larger
//! budget stay, and leave less room for the rest. Other processes learn of a pin when they scan the directory, and
//! before they remove anything as expired. Until then its blocks are safe because they were used last.
//!
//! Cost: every scan reads all pins and hashes 65 bytes for each of their blocks.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::file::{hex, unhex};
use super::filesystem::{FilesystemStore, Inner};
use super::private::{self, Private};
use super::{StoreError, StoreKey, scan};

/// Most blocks that one pin names: a million tokens.
pub const MAX_PINNED: usize = 1 << 16;

const FORMAT: &str = "headstart-pin/1";
const SUFFIX: &str = ".pin";
/// Where pins lie, below the root.
const PINS: &str = "pins";
const MAX_FILE: u64 = 65 * MAX_PINNED as u64 + 128;

/// A pin, and how many of its blocks are present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    pub name: String,
    /// The keys as given, from the root on.
    pub keys: Vec<StoreKey>,
    /// How many of `keys` are not stored.
    pub missing: usize,
    /// Bytes of the stored ones, in whole disk blocks.
    pub bytes: u64,
}

/// What was found in a directory, and how many files were skipped because the store does not write such files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    pub found: Vec<T>,
    pub damaged: usize,
}

#[doc(hidden)]
impl FilesystemStore {
    /// Pins the blocks of `keys`, a chain from the root on, in place of what `name` pinned before. `name` has 1 to 64
    /// of the characters `a-z`, `0-9`, `.`, `_` and `-`, and begins with a letter or digit. Fails and changes nothing
    /// if all pins together would exceed their share of the budget. A missing block counts as much as the largest
    /// present one of its chain.
    pub fn pin(&self, name: &str, keys: &[StoreKey]) -> Result<Pinned, StoreError> {
        let file = file(name)?;
        let path = self.root.join(PINS).join(&file);
        let problem = match keys.len() {
            0 => Some("it names no block".to_owned()),
            1..=MAX_PINNED => None,
            more => Some(format!("it names {more} blocks, at most {MAX_PINNED} are allowed; pin a shorter prefix")),
        };
        if let Some(problem) = problem {
            return Err(StoreError::Pin { name: name.to_owned(), problem });
        }
        let inner = &mut *self.inner.borrow_mut();
        let loaded = load(&self.private);
        let mut pins = self.count(inner, &self.root, loaded)?.found;
        pins.retain(|pin| pin.0 != name);
        pins.push((name.to_owned(), keys.to_vec()));
        let asked = self.reserved(&pins);
        let asked = self.count(inner, &self.root, asked)?;
        let allowed = (u128::from(self.config.budget) * u128::from(self.config.pinned_percent) / 100) as u64;
        if asked > allowed {
            return Err(StoreError::PinsFull { asked, allowed });
        }
        let text = render(keys);
        let written = self.replace(PINS, &file, |file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        self.count(inner, &path, written)?;
        self.refresh_pins(inner);
        self.mark(inner, keys);
        let pinned = self.pinned(name.to_owned(), keys.to_vec());
        self.count(inner, &self.root, pinned)
    }

    /// Removes a pin, so that its blocks can be evicted again. False if there is no such pin. A damaged one is removed
    /// too.
    pub fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        let file = file(name)?;
        let path = self.root.join(PINS).join(&file);
        let inner = &mut *self.inner.borrow_mut();
        let removed =
            self.private.folder(PINS).and_then(|pins| pins.map_or(Ok(false), |pins| scan::remove(&pins.join(file))));
        let removed = self.count(inner, &path, removed)?;
        self.refresh_pins(inner);
        Ok(removed)
    }

    /// All pins by name, whichever process made them.
    pub fn pins(&self) -> Result<Listing<Pinned>, StoreError> {
        let inner = &mut *self.inner.borrow_mut();
        let listed = load(&self.private).and_then(|pins| {
            let found =
                pins.found.into_iter().map(|(name, keys)| self.pinned(name, keys)).collect::<io::Result<_>>()?;
            Ok(Listing { found, damaged: pins.damaged })
        });
        self.count(inner, &self.root, listed)
    }

    /// Whether a pin names the key, by the pins known or else by those in the directory now.
    pub(super) fn is_pinned(&self, inner: &mut Inner, key: &StoreKey) -> bool {
        if !inner.lru.is_pinned(key) {
            self.refresh_pins(inner);
        }
        inner.lru.is_pinned(key)
    }

    /// If the pins cannot be read, the known ones stay in force.
    pub(super) fn refresh_pins(&self, inner: &mut Inner) {
        match load(&self.private) {
            Ok(pins) => inner.lru.pin(pins.found.into_iter().flat_map(|pin| pin.1).collect()),
            Err(_) => inner.usage.failures += 1,
        }
    }

    /// Bytes of all blocks that these pins name, each counted once.
    fn reserved(&self, pins: &[Named]) -> io::Result<u64> {
        let mut reserved: HashMap<&StoreKey, u64> = HashMap::new();
        for (_, keys) in pins {
            let costs = keys.iter().map(|key| self.cost(key)).collect::<io::Result<Vec<_>>>()?;
            let largest = costs.iter().flatten().copied().max().unwrap_or(0);
            for (key, cost) in keys.iter().zip(costs) {
                let bytes = reserved.entry(key).or_default();
                *bytes = cost.unwrap_or(largest).max(*bytes);
            }
        }
        Ok(reserved.into_values().fold(0, u64::saturating_add))
    }

    fn pinned(&self, name: String, keys: Vec<StoreKey>) -> io::Result<Pinned> {
        let distinct: HashMap<&StoreKey, Option<u64>> =
            keys.iter().map(|key| Ok((key, self.cost(key)?))).collect::<io::Result<_>>()?;
        let missing = distinct.values().filter(|cost| cost.is_none()).count();
        let bytes = distinct.values().flatten().sum();
        Ok(Pinned { name, keys, missing, bytes })
    }

    fn cost(&self, key: &StoreKey) -> io::Result<Option<u64>> {
        let path = self.find(key)?;
        Ok(path.map_or(Ok(None), |path| scan::look(&path))?.map(|entry| entry.bytes))
    }
}

/// Name and keys.
pub(super) type Named = (String, Vec<StoreKey>);

/// All pins by name.
pub(super) fn load(place: &Private) -> io::Result<Listing<Named>> {
    let mut pins = Listing { found: Vec::new(), damaged: 0 };
    for (name, path) in files(place)? {
        match read(&path) {
            Ok(Some(keys)) => pins.found.push((name, keys)),
            Ok(None) => pins.damaged += 1,
            // It was unpinned meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    pins.found.sort();
    Ok(pins)
}

pub(super) fn remove_all(place: &Private) -> io::Result<()> {
    files(place)?.iter().try_for_each(|(_, path)| scan::remove(path).map(drop))
}

fn files(place: &Private) -> io::Result<Vec<(String, PathBuf)>> {
    let named = scan::list(place.folder(PINS)?)?.into_iter().filter_map(|file| {
        let name = file.file_name().to_str()?.strip_suffix(SUFFIX)?.to_owned();
        let ours = is_name(&name) && file.metadata().is_ok_and(|found| private::is_own_file(&found));
        ours.then(|| (name, file.path()))
    });
    Ok(named.collect())
}

/// The file name of a pin.
fn file(name: &str) -> Result<String, StoreError> {
    match is_name(name) {
        true => Ok(name.to_owned() + SUFFIX),
        false => {
            let problem = "a name is 1 to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or digit";
            Err(StoreError::Pin { name: name.to_owned(), problem: problem.to_owned() })
        }
    }
}

/// One spelling only, for file systems that ignore case.
fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = |c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    first && name.len() <= 64 && name.bytes().all(rest)
}

fn render(keys: &[StoreKey]) -> String {
    let lines: String = keys.iter().map(|key| hex(key) + "\n").collect();
    format!("{FORMAT}\n{}\n{lines}", hex(&Sha256::digest(&lines).into()))
}

/// `None` unless [`render`] would write exactly this.
fn read(path: &Path) -> io::Result<Option<Vec<StoreKey>>> {
    let (file, found) = private::open(path)?.ok_or(io::ErrorKind::NotFound)?;
    let length = found.len();
    if length > MAX_FILE {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(length).read_to_end(&mut bytes)?;
    let lines = bytes.split(|byte| *byte == b'\n').skip(2);
    let keys = lines.filter(|line| !line.is_empty()).map(|line| std::str::from_utf8(line).ok().and_then(unhex));
    let keys: Option<Vec<StoreKey>> = keys.collect();
    Ok(keys.filter(|keys| !keys.is_empty() && render(keys).as_bytes() == bytes))
}
