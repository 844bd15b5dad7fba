//! Packs judged by samples: some of their blocks computed anew and compared, bit for bit.
//!
//! The KV of a block follows from its tokens and from the blocks before it. An audit takes those from the pack, computes the block
//! as every prompt does that goes on from a hit, and compares. A pack of n blocks of which one is wrong passes an audit of k of them
//! with probability 1 - k/n. Whoever put it together cannot know which.
//!
//! The bits of one adapter are not those of another: of a pack that another one made, values are compared within
//! [`TOLERANCE`].
//!
//! Cost: a prefill of one block for each, and loading what comes before.

use std::ops::ControlFlow;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::answers::{Answers, What};
use super::packs::{block_keys, refused};
use super::save::Persistence;
use crate::error::{Error, Result};
use crate::store::{BLOCK, Blob, MemoryStore, Pack, PackError, PackStore, Store, Tiers, TiersConfig, system_clock};

/// How far values of another adapter may be apart, as a part of the largest of their layer.
const TOLERANCE: f32 = 1.0 / 32.0;
/// Longer than loading any pack takes.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// What an audit found.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Audited {
    /// Blocks that the pack has.
    pub blocks: usize,
    /// Those that were computed and compared, in order.
    pub checked: Vec<usize>,
    /// Every bit of them is what this machine computes.
    pub exact: bool,
    /// How far values are apart, as a part of the largest of their layer: 0 where they are exact.
    pub largest: f32,
    /// The adapter that made the pack, if it tells.
    pub device: Option<String>,
}

impl Answers {
    /// Computes `count` blocks of a pack, or all if it has fewer, and compares them with what is in it. `None` where `each` ended
    /// that. `nonce` is random: a salt that nobody has ever used, and what the blocks are chosen by. No answer may be under way.
    ///
    /// # Errors
    /// [`Error::Pack`] for a pack of another model or salt, and at the first block that is not what this machine computes; [`Error::Request`] where answers are under way; as [`Answers::warm`].
    pub async fn audit(
        &mut self,
        pack: Pack,
        salt: &str,
        count: usize,
        nonce: &str,
        each: &mut dyn FnMut(&[What]) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Audited>> {
        if self.is_busy() {
            let problem = "an answer is under way; audit before or after it".into();
            return Err(Error::Request { field: "audit", problem });
        }
        self.persist().await?;
        let engine = self.engine_mut();
        let identity = engine.identity()?;
        let name = pack.header().name.clone();
        let fail = |problem| refused(&name, problem);
        identity.check(&pack, salt).map_err(fail)?;
        let namespace = identity.namespace(nonce);
        let keys = block_keys(&namespace);
        let pack = pack.under(nonce, &keys);
        let (chain, tokens) = (pack.keys(&keys).map_err(fail)?, pack.tokens().to_vec());
        let audited = Audited {
            blocks: chain.len() - 1,
            checked: choose(chain.len() - 1, count, nonce),
            exact: true,
            largest: 0.0,
            device: pack.header().device.clone(),
        };
        let is_own = audited.device.as_ref() == Some(&engine.adapter().to_string());
        let packs = PackStore::default();
        identity.hold(pack, nonce, &packs).map_err(fail)?;
        let tiers =
            Tiers::new(MemoryStore::new(0, system_clock()), vec![Box::new(packs.clone())], TiersConfig::default());
        let own = engine.reuse.persistence.replace(Persistence::new(tiers, PATIENCE));
        let mut audit = Audit { packs, chain, tokens, nonce, is_own, name: &name };
        let done = audit.run(audited, self, each).await;
        self.engine_mut().reuse.persistence = own;
        done
    }
}

/// `count` different ones of so many blocks, or all, in order.
fn choose(blocks: usize, count: usize, nonce: &str) -> Vec<usize> {
    let mut left: Vec<usize> = (0..blocks).collect();
    let draw = |index: usize| {
        let hash = Sha256::new_with_prefix(nonce).chain_update(index.to_le_bytes()).finalize();
        let (words, _) = hash.as_chunks();
        let at = u64::from_le_bytes(words[0]) % left.len() as u64;
        left.swap_remove(at as usize)
    };
    let mut chosen: Vec<usize> = (0..count.min(blocks)).map(draw).collect();
    chosen.sort_unstable();
    chosen
}

struct Audit<'a> {
    packs: PackStore,
    /// The root, then the key of every block.
    chain: Vec<[u8; 32]>,
    tokens: Vec<u32>,
    nonce: &'a str,
    /// This adapter made the pack.
    is_own: bool,
    name: &'a str,
}

impl Audit<'_> {
    async fn run(
        &mut self,
        mut audited: Audited,
        answers: &mut Answers,
        each: &mut dyn FnMut(&[What]) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Audited>> {
        for block in audited.checked.clone() {
            let (key, end) = (self.chain[block + 1], self.tokens.len().min((block + 1) * BLOCK));
            let theirs = self.packs.get(&key).await.ok().flatten();
            let theirs = theirs.and_then(|bytes| Blob::parse(&bytes).ok()).ok_or_else(|| self.fail(PackError::Key))?;
            self.packs.hide(Some(key));
            let computed = answers.warm(&self.tokens[..end], self.nonce, each).await;
            self.packs.hide(None);
            if computed?.finish_reason.is_none() {
                return Ok(None);
            }
            let engine = answers.engine_mut();
            let namespace = engine.namespace(self.nonce);
            let ours = engine.blobs(&namespace, &self.tokens[..end], block).await?.and_then(|mut blobs| blobs.pop());
            let ours = ours.ok_or_else(|| self.fail(PackError::Empty))?;
            let apart = apart(&theirs, &ours);
            if apart > 0.0 && (self.is_own || apart > TOLERANCE) {
                return Err(self.fail(PackError::Audit { block, first: block * BLOCK, last: end - 1, apart }));
            }
            audited.exact &= apart == 0.0;
            audited.largest = audited.largest.max(apart);
        }
        Ok(Some(audited))
    }

    fn fail(&self, problem: PackError) -> Error {
        refused(self.name, problem)
    }
}

/// How far the values of two blocks of the same tokens are apart, as a part of the largest of their tensor; above 0 wherever a bit
/// differs.
fn apart(theirs: &Blob, ours: &Blob) -> f32 {
    let halves = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|half| half::f16::from_le_bytes(*half).to_f32()).collect()
    };
    let kv = (0..ours.rows.len()).flat_map(|layer| {
        [(theirs.k(layer), ours.k(layer)), (theirs.v(layer), ours.v(layer))]
            .map(|(a, b)| (a == b, halves(a), halves(b)))
    });
    let floats = |a: &[f32], b: &[f32]| {
        (a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits())), a.to_vec(), b.to_vec())
    };
    // Of blocks before the last a pack has none.
    let hidden = theirs.last_hidden.as_ref().zip(ours.last_hidden.as_ref()).map(|(a, b)| floats(a, b));
    let different = kv.chain(hidden).chain([floats(&theirs.state, &ours.state)]).filter(|(same, ..)| !same);
    different.map(|(_, theirs, ours)| relative(&theirs, &ours)).fold(0.0, f32::max)
}

fn relative(theirs: &[f32], ours: &[f32]) -> f32 {
    let largest = ours.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    let distance = theirs.iter().zip(ours).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
    // Zeros of other signs differ, too.
    (distance / largest.max(f32::MIN_POSITIVE)).max(f32::MIN_POSITIVE)
}
