//! How fast this machine loads and computes. The rates outlive the process, so that a tier that was slower than
//! computing is not tried again.
//!
//! The file `rates.json` in a cache directory has the rates by machine, model and tier. It is replaced by renaming. Of
//! two simultaneous writers the later wins, and the other's rates are measured again. The same happens if the file is
//! damaged, too large or not writable.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Engine, choice::Rate};
use crate::kv::Namespace;
use crate::store::Note;

const FILE: &str = "rates.json";
/// The name for the rate of computing, besides those of tiers.
const COMPUTING: &str = "computing";
const MAX_ENTRIES: usize = 256;
/// The longest name. As many entries fit with names of this many escaped bytes.
const MAX_NAME: usize = 256;
const MAX_BYTES: u64 = 2 << 20;

/// Where the rates of one model on one machine are kept.
pub(super) struct Remembered {
    note: Note,
    machine: String,
    model: String,
    /// The rates as last read or written.
    last: Vec<(String, Rate)>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    machine: String,
    model: String,
    what: String,
    #[serde(flatten)]
    rate: Rate,
}

impl Remembered {
    fn new(dir: &Path, machine: String, model: String) -> Self {
        Self { note: Note::new(dir, FILE, MAX_BYTES), machine, model, last: Vec::new() }
    }

    fn read(&mut self) -> &[(String, Rate)] {
        let is_own = |entry: &Entry| entry.machine == self.machine && entry.model == self.model;
        let own = self.entries().into_iter().filter(is_own);
        self.last = own.map(|entry| (entry.what, entry.rate)).collect();
        &self.last
    }

    /// The rates of all machines and models, the oldest first; none if the file is damaged.
    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = serde_json::from_slice(&self.note.read()).unwrap_or_default();
        entries.retain(|entry| entry.rate.is_measured());
        entries
    }

    fn write(&mut self, rates: Vec<(String, Rate)>) -> io::Result<()> {
        if rates == self.last {
            return Ok(());
        }
        let mut entries = self.entries();
        entries.retain(|entry| (&entry.machine, &entry.model) != (&self.machine, &self.model));
        // Rates with a name that is too long are not kept.
        let names_fit = |what: &str| [what, &self.machine, &self.model].iter().all(|name| name.len() <= MAX_NAME);
        entries.extend(rates.iter().filter(|(what, _)| names_fit(what)).map(|(what, rate)| Entry {
            machine: self.machine.clone(),
            model: self.model.clone(),
            what: what.clone(),
            rate: *rate,
        }));
        entries.drain(..entries.len().saturating_sub(MAX_ENTRIES));
        self.last = rates;
        self.note.write(&serde_json::to_vec_pretty(&entries)?)
    }
}

/// How fast prompts of a model that is one of `models` were computed when one last was, by what `dir` has of it.
#[doc(hidden)]
pub fn computing(dir: &Path, models: &[Namespace]) -> Option<Rate> {
    let names: Vec<String> = models.iter().map(|model| model.key().to_string()).collect();
    let mut entries = Remembered::new(dir, String::new(), String::new()).entries().into_iter();
    entries.rfind(|entry| entry.what == COMPUTING && names.contains(&entry.model)).map(|entry| entry.rate)
}

impl Engine {
    /// Starts with the rates of loading and computing that were measured earlier on this machine with this model, and
    /// stores new rates in `dir` whenever [`persist`](Self::persist) has saved everything. Call it after attaching
    /// tiers.
    pub fn remember_rates(&mut self, dir: impl AsRef<Path>) {
        let adapter = self.adapter();
        let machine = [&*adapter.name, &adapter.backend, &adapter.driver].join(" / ");
        let namespace = self.namespace("");
        let Some(persistence) = &mut self.reuse.persistence else { return };
        let model = namespace.key().to_string();
        let mut remembered = Remembered::new(dir.as_ref(), machine, model);
        for (what, rate) in remembered.read() {
            let tier = persistence.tiers.stores().position(|store| store.name() == what);
            let place = match tier {
                Some(tier) => &mut persistence.rates[tier],
                None if what == COMPUTING => &mut self.reuse.prefill,
                None => continue,
            };
            if !place.is_measured() {
                *place = *rate;
            }
        }
        persistence.remembered = Some(remembered);
    }

    /// If the file cannot be written, the rates are measured again.
    pub(super) fn write_rates(&mut self) {
        let Some(persistence) = &mut self.reuse.persistence else { return };
        let tiers = persistence.tiers.stores().map(|store| store.name()).zip(&persistence.rates);
        let all = tiers.chain([(COMPUTING, &self.reuse.prefill)]);
        let measured =
            all.filter(|(_, rate)| rate.is_measured()).map(|(what, rate)| (what.to_owned(), *rate)).collect();
        if let Some(remembered) = &mut persistence.remembered {
            let _ = remembered.write(measured);
        }
    }
}
