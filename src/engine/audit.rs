//! Audits packs by sampling: some of their blocks are recomputed and compared bit for bit.
//!
//! The KV of a block follows from its tokens and the blocks before it. An audit takes those from the pack, computes the
//! block as any prompt after a hit would, and compares. A pack of n blocks with one wrong block passes an audit of k
//! blocks with probability 1 - k/n. Its maker cannot know which blocks are chosen.
//!
//! Adapters differ in their bits. The values of a pack that another adapter made can only be compared within
//! [`tolerance`], which detects gross changes only. The caller decides whether to accept that, not the pack.
//!
//! Cost: for each audited block, a prefill of that block and loading the blocks before it.

use std::ops::ControlFlow;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::answers::{Answers, What};
use super::packs::block_keys;
use super::pages::PageLayout;
use super::save::Persistence;
use crate::error::{Error, Result};
use crate::kv::KvFormat;
use crate::store::{BLOCK, Blob, MemoryStore, Pack, PackError, PackStore, Store, Tiers, TiersConfig, system_clock};

/// Largest allowed difference of a token's values in a tensor on another adapter: the root mean square of the
/// differences, relative to that of the values. In 8 bits a value next to the middle of two multiples becomes either,
/// and later layers read that.
fn tolerance(format: KvFormat) -> f32 {
    match format {
        KvFormat::F16 => 1.0 / 128.0,
        KvFormat::Q8 => 1.0 / 32.0,
    }
}
/// A deadline longer than loading any pack takes.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// The result of an audit.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Audited {
    /// Blocks in the pack.
    pub blocks: usize,
    /// The blocks that were computed and compared, in order.
    pub checked: Vec<usize>,
    /// Whether every bit equals what this machine computes.
    pub exact: bool,
    /// Largest relative difference of a token's values in a tensor, by root mean square; 0 if they are exact.
    pub largest: f32,
    /// The adapter that made the pack, as the pack states.
    pub device: Option<String>,
}

impl Answers {
    /// Computes `count` blocks of a pack, or all if it has fewer, and compares them with what is in it. `None` where `each` ended
    /// that. `nonce` is random: a salt that nobody has ever used, and what the blocks are chosen by. `other_adapter`: values need not be the same to the last
    /// bit. No answer may be under way.
    ///
    /// # Errors
    /// [`Error::Pack`] for a pack of another model or salt, and at the first block that is not what this machine computes; [`Error::Request`] where answers are under way; as [`Answers::warm`].
    pub async fn audit(
        &mut self,
        pack: Pack,
        salt: &str,
        count: usize,
        nonce: &str,
        other_adapter: bool,
        each: &mut dyn FnMut(&[What]) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Audited>> {
        if self.has_answers() {
            let problem = "an answer is under way; audit before or after it".into();
            return Err(Error::Request { field: "audit", problem });
        }
        self.persist().await?;
        let engine = self.engine_mut();
        let identity = engine.identity()?;
        let name = pack.header().name.clone();
        let fail = |problem: PackError| problem.of(&name);
        identity.check(&pack, salt).map_err(fail)?;
        pack.keys(&block_keys(&identity.namespace(salt))).map_err(fail)?;
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
        let packs = PackStore::default();
        identity.hold(pack, nonce, &packs).map_err(fail)?;
        let tiers =
            Tiers::new(MemoryStore::new(0, system_clock()), vec![Box::new(packs.clone())], TiersConfig::default());
        let own = engine.reuse.persistence.replace(Persistence::new(tiers, PATIENCE));
        let mut audit = Audit { packs, chain, tokens, nonce, other_adapter, name: &name };
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
    other_adapter: bool,
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
            let layout = &engine.reuse.layout;
            let apart = apart(&theirs, &ours, layout);
            if apart > if self.other_adapter { tolerance(engine.runner.config.kv) } else { 0.0 } {
                return Err(self.fail(PackError::Audit { block, first: block * BLOCK, last: end - 1, apart }));
            }
            audited.exact &= apart == 0.0;
            audited.largest = audited.largest.max(apart);
        }
        Ok(Some(audited))
    }

    fn fail(&self, problem: PackError) -> Error {
        problem.of(self.name)
    }
}

/// How far the values of two blocks of the same tokens are apart, as [`Audited::largest`]; above 0 wherever a bit differs.
fn apart(theirs: &Blob, ours: &Blob, layout: &PageLayout) -> f32 {
    let mut largest: f32 = 0.0;
    for (layer, row) in ours.rows.iter().enumerate() {
        for (a, b, width) in [(theirs.k(layer), ours.k(layer), row.k), (theirs.v(layer), ours.v(layer), row.v)] {
            let tokens = a.chunks(width.max(1)).zip(b.chunks(width.max(1))).filter(|(a, b)| a != b);
            largest = tokens.map(|(a, b)| distance(&layout.floats(a), &layout.floats(b))).fold(largest, f32::max);
        }
    }
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    // Of blocks before the last a pack has no hidden state.
    let hidden = theirs.last_hidden.as_ref().zip(ours.last_hidden.as_ref());
    let floats = hidden.into_iter().chain([(&theirs.state, &ours.state)]).filter(|(a, b)| bits(a) != bits(b));
    floats.map(|(a, b)| distance(a, b)).fold(largest, f32::max)
}

fn distance(theirs: &[f32], ours: &[f32]) -> f32 {
    let square = |sum: f64, value: f32| sum + f64::from(value) * f64::from(value);
    let apart = theirs.iter().zip(ours).map(|(a, b)| a - b).fold(0.0, square);
    let whole = ours.iter().copied().fold(0.0, square).max(f64::MIN_POSITIVE);
    // Zeros of other signs differ, too.
    ((apart / whole).sqrt() as f32).max(f32::MIN_POSITIVE)
}
