//! Prefixes on their own: computed ahead of requests, exported as packs, and imported from others.
//!
//! Warming computes a prefix as a cold prefill does, so a pack never contains KV of decode kernels. [`KvIdentity`]
//! tells whether a pack belongs to a model, without a GPU. The blocks of an imported pack go to the tiers, where
//! requests find them.
//!
//! Cost: warming takes one prefill of the unknown part. An export reads the pages once and takes one SHA-256. An import
//! takes one SHA-256 over the pack and one over each block.

use std::ops::ControlFlow;

use web_time::Instant;

use super::answers::{Answer, Answers, What};
use super::{Engine, FinishReason, KvIdentity, Request, save::Block};
use crate::{
    error::{Error, Result},
    kv::{Key, Namespace, PAGE, PageId},
    store::{self, Blob, BlockKeys, Pack, PackError, PackExpected, PackStore, Tiers},
    text::{ChatTemplate, Inputs, Message, StopStrings, Tokenizer},
};

/// Most bytes of blocks that are queued while a pack is imported.
const IMPORT_BYTES: usize = 16 << 20;

/// The part of a conversation that is worth computing ahead: the tokens with which all its continuations begin.
///
/// A conversation that ends with a message to be answered or continued is taken whole, up to the start of the answer.
/// After any other, such as a system text, an unknown question follows. Such a conversation is taken as far as prompts
/// do not depend on the question, so it never ends with a token that a question would change. Empty if the template
/// begins with the question.
///
/// # Errors
/// [`Error::Template`] if the template refuses the messages.
pub(crate) fn shared_prefix(template: &ChatTemplate, tokenizer: &Tokenizer, inputs: &Inputs) -> Result<Vec<u32>> {
    // They begin with different characters, some of which merge with what precedes them into one token.
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

/// The result of importing a pack.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Tokens of the prefix.
    pub tokens: usize,
    /// Blocks of the pack.
    pub blocks: usize,
    /// How many of them each tier has, memory first.
    pub kept: Vec<(&'static str, usize)>,
}

/// How many of these blocks each tier has, memory first. A store that does not answer counts as having none.
pub(crate) async fn kept(tiers: &Tiers, keys: &[store::StoreKey]) -> Vec<(&'static str, usize)> {
    let mut kept = Vec::new();
    for store in tiers.stores() {
        let there = store.contains(keys).await.unwrap_or_default();
        kept.push((store.name(), there.into_iter().filter(|there| *there).count()));
    }
    kept
}

fn block_key(parent: &store::StoreKey, tokens: &[u32]) -> store::StoreKey {
    Key::block(&Key(*parent), tokens).0
}

pub(super) fn block_keys(namespace: &Namespace) -> BlockKeys<'static> {
    BlockKeys { root: namespace.key().0, block: &block_key }
}

impl KvIdentity {
    /// Checks that a pack belongs to this model and salt.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn check(&self, pack: &Pack, salt: &str) -> Result<(), PackError> {
        self.expecting(salt, |expected, _| pack.check(expected))
    }

    /// Makes a pack available to requests of this salt. The whole pack stays in memory.
    ///
    /// # Errors
    /// The first difference, for a pack of another model or salt.
    pub fn hold(&self, pack: Pack, salt: &str, packs: &PackStore) -> Result<(), PackError> {
        self.expecting(salt, |expected, keys| packs.add(pack, expected, keys))
    }

    /// Puts the blocks of a pack into the tiers. The result tells how many each tier had room for.
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
                element: self.layout.element(),
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

impl Answers {
    /// Computes the part of `tokens` that neither pages nor tiers have, beside other answers, and saves it with the
    /// last hidden state in the tiers. The answer tells where its tokens came from. It has no finish reason if `each`
    /// ended it.
    ///
    /// # Errors
    /// [`Error::Request`] if the GPU has no memory for it, and as [`Answers::run`].
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

    /// Makes a pack of that name from the KV of `tokens` and their last hidden state, with the start of `text` if
    /// given. Tokens that pages lack are warmed first; `None` if `each` ended that.
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
        pack.map(Some).ok_or_else(|| PackError::Empty.of(name))
    }
}

impl Engine {
    /// The identity of this engine's KV, with the digest that [`Engine::attach`] was given.
    ///
    /// # Errors
    /// [`Error::Request`] if no tiers are attached.
    pub fn identity(&self) -> Result<KvIdentity> {
        self.identified().map(|(identity, _)| identity)
    }

    /// Makes a pack of that name from the KV of `tokens` and their last hidden state, with the start of `text` if
    /// given. `None` unless pages hold all of it as prefill computes it.
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
            .map_err(|problem| problem.of(name))
    }

    /// Puts the blocks of a pack into the tiers, where requests of that salt find them.
    ///
    /// # Errors
    /// As [`Engine::identity`]; [`Error::Pack`] for one of another model or salt.
    pub async fn import_pack(&mut self, pack: &Pack, salt: &str) -> Result<Imported> {
        let (identity, tiers) = self.identified()?;
        let imported = identity.import(pack, salt, tiers).await;
        imported.map_err(|problem| problem.of(&pack.header().name))
    }

    fn identified(&self) -> Result<(KvIdentity, &Tiers)> {
        let problem = "the digest of the weights is not known; attach tiers first";
        let tiers = self.tiers().ok_or_else(|| Error::Request { field: "pack", problem: problem.into() })?;
        Ok((self.reuse.identity(self.config()), tiers))
    }

    /// The blocks of `tokens` from block `from` on, the last with its hidden state. `None` unless pages hold them as
    /// prefill computes them.
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
        // Pages being saved occupy the memory through which pages are read.
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
