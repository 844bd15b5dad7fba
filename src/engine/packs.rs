//! Prefixes with a life of their own: computed before anybody asks for them, given away as packs, taken in from others.
//!
//! A prefix is warmed as a cold prefill computes it, so a pack never holds what decode kernels wrote. Whether a pack is of
//! a model says its [`KvIdentity`], without a GPU; the blocks of one that is go to the tiers, where requests find them.
//!
//! Cost: warming is one prefill of what is nowhere yet, an export one reading of its pages and one SHA-256, an import one
//! SHA-256 over the pack and one over each block.

use std::ops::ControlFlow;

use web_time::Instant;

use super::answers::{Answer, Answers, What};
use super::{Engine, FinishReason, KvIdentity, Request, save::Block};
use crate::{
    error::{Error, Result},
    kv::{Key, Namespace, PAGE, PageId},
    store::{self, Blob, BlockKeys, Element, Pack, PackError, PackExpected, PackStore, Tiers},
    text::{ChatTemplate, Inputs, Message, StopStrings, Tokenizer},
};

/// Bytes of blocks that wait while a pack is taken in.
const IMPORT_BYTES: usize = 16 << 20;

/// What of a conversation is worth computing ahead: tokens that prompts which go on from it begin with.
///
/// One that ends with what is to be answered or continued is taken whole, up to where the answer begins. After any other, a system text
/// above all, somebody asks what nobody knows yet: it is taken as far as all prompts are the same whatever is asked, and
/// so never ends with a token that a question would change. Empty where the template begins with the question.
///
/// # Errors
/// [`Error::Template`] where the template refuses the messages.
pub(crate) fn shared_prefix(template: &ChatTemplate, tokenizer: &Tokenizer, inputs: &Inputs) -> Result<Vec<u32>> {
    // They begin with other characters, and some with ones that join what is before them in one token.
    const QUESTIONS: [&str; 6] = ["A", "1", " a", "\na", "\u{2026}", "<"];
    let now = Some(inputs.now.unwrap_or_else(|| template.now()));
    let inputs = Inputs { add_generation_prompt: !inputs.continue_final_message, now, ..*inputs };
    let answered_next =
        inputs.messages.last().is_some_and(|last| !["system", "developer", "assistant"].contains(&last.role.as_str()));
    if answered_next || inputs.continue_final_message {
        return template.encode(tokenizer, &inputs);
    }
    let mut shared: Option<Vec<u32>> = None;
    for question in QUESTIONS {
        let messages = [inputs.messages, &[Message::new("user", question)]].concat();
        let prompt = template.encode(tokenizer, &Inputs { messages: &messages, ..inputs })?;
        let shared = shared.get_or_insert_with(|| prompt.clone());
        let same = shared.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        shared.truncate(same);
    }
    Ok(shared.unwrap_or_default())
}

/// What became of the blocks of a pack.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Tokens of the prefix.
    pub tokens: usize,
    /// Blocks that it is made of.
    pub blocks: usize,
    /// How many of them each tier has now, memory first.
    pub kept: Vec<(&'static str, usize)>,
}

/// How many of these blocks each tier has now, memory first; of a store that does not answer, none.
pub(crate) async fn kept(tiers: &Tiers, keys: &[store::Key]) -> Vec<(&'static str, usize)> {
    let mut kept = Vec::new();
    for store in tiers.stores() {
        let there = store.contains(keys).await.unwrap_or_default();
        kept.push((store.name(), there.into_iter().filter(|there| *there).count()));
    }
    kept
}

fn block_key(parent: &store::Key, tokens: &[u32]) -> store::Key {
    Key::block(&Key(*parent), tokens).0
}

pub(super) fn block_keys(namespace: &Namespace) -> BlockKeys<'static> {
    BlockKeys { root: namespace.key().0, block: &block_key }
}

impl KvIdentity {
    /// Whether a pack is of this model and salt, or why not.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn check(&self, pack: &Pack, salt: &str) -> Result<(), PackError> {
        self.expecting(salt, |expected, _| pack.check(expected))
    }

    /// Lets requests of this salt find a pack, which stays in memory whole.
    ///
    /// # Errors
    /// The first difference, for a pack of another model or salt.
    pub fn hold(&self, pack: Pack, salt: &str, packs: &PackStore) -> Result<(), PackError> {
        self.expecting(salt, |expected, keys| packs.add(pack, expected, keys))
    }

    /// Takes the blocks of a pack into the tiers. What a tier has no room for it does not keep, and says so.
    ///
    /// # Errors
    /// As [`KvIdentity::check`]; never for a store's sake.
    pub(crate) async fn import(&self, pack: &Pack, salt: &str, tiers: &Tiers) -> Result<Imported, PackError> {
        self.check(pack, salt)?;
        let (mut keys, mut waiting) = (Vec::new(), 0);
        for blob in pack.blobs(&block_keys(&self.namespace(salt)))? {
            tiers.save(&blob).await;
            keys.push(blob.key);
            waiting += blob.kv.len();
            if waiting >= IMPORT_BYTES {
                tiers.flush().await;
                waiting = 0;
            }
        }
        let (namespace, producer) = (self.namespace(salt), pack.header().producer);
        let chain: Vec<Key> = keys.iter().copied().map(Key).collect();
        let block = |number| Block::new(&namespace, &chain, pack.tokens(), number).written(producer);
        tiers.record((0..chain.len()).map(block).collect()).await;
        tiers.flush().await;
        tiers.touch(&keys).await;
        Ok(Imported { tokens: pack.tokens().len(), blocks: keys.len(), kept: kept(tiers, &keys).await })
    }

    fn expecting<T>(&self, salt: &str, ask: impl FnOnce(&PackExpected, &BlockKeys) -> T) -> T {
        let namespace = self.namespace(salt);
        let (fields, rows) = (namespace.fields().entries(), self.layout.rows());
        let (hidden, state, vocab) = (self.hidden, self.layout.state(), self.vocab);
        ask(
            &PackExpected {
                namespace: &fields,
                element: Element::F16,
                rows: &rows,
                windows: self.layout.windows(),
                hidden,
                state,
                vocab,
            },
            &block_keys(&namespace),
        )
    }
}

pub(super) fn refused(name: &str, problem: PackError) -> Error {
    Error::Pack { pack: name.to_owned(), problem: problem.to_string() }
}

impl Answers {
    /// Computes what neither pages nor tiers have of `tokens`, beside whatever runs, and saves it with the last hidden state
    /// in the tiers. The answer tells where its tokens came from, and has no reason to end where `each` ended it.
    ///
    /// # Errors
    /// [`Error::Request`] where the GPU has no memory for it, and as [`Answers::run`].
    pub async fn warm(
        &mut self,
        tokens: &[u32],
        salt: &str,
        each: &mut dyn FnMut(&[What]) -> Result<ControlFlow<()>>,
    ) -> Result<Answer> {
        let (tokens, cache_salt) = (tokens.to_vec(), salt.to_owned());
        let request = Request { tokens, cache_salt, exact: true, ..Request::default() };
        let id = self.ask(request, StopStrings::default(), Instant::now())?;
        let answer = self.run(id, each).await?;
        if answer.finish_reason == Some(FinishReason::Context) {
            let problem = "the GPU has no memory for it; lower --context, or free GPU memory".into();
            return Err(Error::Request { field: "prefix", problem });
        }
        self.persist().await?;
        Ok(answer)
    }

    /// The KV of `tokens` and their last hidden state as a pack of that name, with the start of `text` if given. What pages
    /// do not have is warmed first; `None` where `each` ended that.
    ///
    /// # Errors
    /// As [`Answers::warm`] and [`Engine::identity`]; [`Error::Pack`] for a name that is none.
    pub async fn export_pack(
        &mut self,
        name: &str,
        tokens: &[u32],
        salt: &str,
        text: Option<&str>,
        each: &mut dyn FnMut(&[What]) -> Result<ControlFlow<()>>,
    ) -> Result<Option<Pack>> {
        match self.engine_mut().pack(name, tokens, salt, text).await {
            Ok(None) => {}
            Err(lost @ Error::DeviceLost { .. }) => self.recover(lost).await?,
            done => return done,
        }
        if self.warm(tokens, salt, each).await?.finish_reason.is_none() {
            return Ok(None);
        }
        let pack = self.engine_mut().pack(name, tokens, salt, text).await?;
        pack.map(Some).ok_or_else(|| refused(name, PackError::Empty))
    }
}

impl Engine {
    /// Whose KV this is, under the digest that [`Engine::attach`] was given.
    ///
    /// # Errors
    /// [`Error::Request`] where no tiers are attached.
    pub fn identity(&self) -> Result<KvIdentity> {
        self.identified().map(|(identity, _)| identity)
    }

    /// The KV of `tokens` and their last hidden state as a pack of that name, with the start of `text` if given; `None` where
    /// pages do not hold all as prefill computes it.
    ///
    /// # Errors
    /// As [`Engine::identity`]; [`Error::Pack`] for a name that is none.
    pub(crate) async fn pack(
        &mut self,
        name: &str,
        tokens: &[u32],
        salt: &str,
        text: Option<&str>,
    ) -> Result<Option<Pack>> {
        let namespace = self.identity()?.namespace(salt);
        let Some(blobs) = self.blobs(&namespace, tokens, 0).await? else { return Ok(None) };
        let device = self.adapter().to_string();
        Pack::from_blobs(name, text, Some(&device), &blobs, &block_keys(&namespace))
            .map(Some)
            .map_err(|problem| refused(name, problem))
    }

    /// Takes the blocks of a pack into the tiers, where requests of that salt find them.
    ///
    /// # Errors
    /// As [`Engine::identity`]; [`Error::Pack`] for one of another model or salt.
    pub async fn import_pack(&mut self, pack: &Pack, salt: &str) -> Result<Imported> {
        let (identity, tiers) = self.identified()?;
        let imported = identity.import(pack, salt, tiers).await;
        imported.map_err(|problem| refused(&pack.header().name, problem))
    }

    fn identified(&self) -> Result<(KvIdentity, &Tiers)> {
        let problem = "the digest of the weights is not known; attach tiers first";
        let tiers = self.tiers().ok_or_else(|| Error::Request { field: "pack", problem: problem.into() })?;
        Ok((self.reuse.identity(self.config()), tiers))
    }

    /// The blocks of `tokens` from one on, the last with its hidden state; `None` where pages do not hold them as prefill
    /// computes them.
    pub(super) async fn blobs(
        &mut self,
        namespace: &Namespace,
        tokens: &[u32],
        from: usize,
    ) -> Result<Option<Vec<Blob>>> {
        let keys: Vec<Key> = Key::chain(namespace, tokens).collect();
        let parents: Vec<Key> = std::iter::once(namespace.key()).chain(keys.iter().copied()).collect();
        let blocks: Vec<&[u32]> = tokens.chunks(PAGE).collect();
        let page = |index: usize| {
            let (page, exact) = self.reuse.cache.page(&parents[index], &keys[index], blocks[index])?;
            (exact == blocks[index].len()).then_some(page)
        };
        let pages: Option<Vec<PageId>> = (from..keys.len()).map(page).collect();
        // What is on its way to be saved takes the memory that pages are read through.
        self.hand_pages_on().await?;
        let hidden = keys.last().and_then(|key| self.reuse.breakpoints.get(key, true)).map(<[f32]>::to_vec);
        let (Some(pages), Some(hidden)) = (pages, hidden) else { return Ok(None) };
        let mut hidden = Some(hidden);
        let mut blobs: Vec<Blob> = Vec::with_capacity(pages.len());
        for read in pages.chunks(self.runner.kv.most_read()) {
            let words = self.runner.kv.read(&mut self.runner.gpu, read).await?;
            for page in words.chunks_exact(self.reuse.layout.words()) {
                let index = from + blobs.len();
                let hidden = if index + 1 == keys.len() { hidden.take() } else { None };
                let block = Block { hidden, ..Block::new(namespace, &keys, tokens, index) };
                blobs.push(block.blob(&self.reuse.layout, store::Producer::Prefill, page));
            }
        }
        Ok(Some(blobs))
    }
}
