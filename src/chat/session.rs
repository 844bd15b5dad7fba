//! A model that is ready to answer: its language, the engine with the tiers behind it, and the loop.

use std::path::PathBuf;

use web_time::Instant;

use super::cache::CacheOptions;
use crate::engine::answers::{AnswerId, Answers};
use crate::engine::openai::{Body, Input};
use crate::engine::{Engine, EngineOptions, Progress, language::Language};
use crate::error::{Error, Result};
use crate::text::{THINKING, Tokenizer};
use crate::weights::Checkpoint;

pub(super) struct Session {
    pub(super) language: Language,
    pub(super) answers: Answers,
    /// What a person should know of how it was loaded.
    pub(super) notes: Vec<String>,
}

/// An answer that was asked for.
pub(super) struct Asked {
    pub(super) id: AnswerId,
    /// Whether the prompt ends with the tag that opens thinking.
    pub(super) thinks: bool,
}

impl Session {
    /// Puts a model on the GPU, with the tiers of `cache` if there are to be any.
    pub(super) async fn start(
        path: PathBuf,
        checkpoint: Checkpoint,
        language: Language,
        options: EngineOptions,
        cache: Option<&CacheOptions>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        let place = cache.map(CacheOptions::open).transpose()?;
        // The digest takes one pass over the files, and the engine another: they go side by side.
        let digest = place.as_ref().map(|place| place.digest(&path));
        let options = EngineOptions { ttl: cache.and_then(|cache| cache.ttl).or(options.ttl), ..options };
        let mut engine = Engine::load(&checkpoint, &options, progress).await?;
        let mut notes = engine.notes().to_vec();
        if let (Some(cache), Some(place), Some(digest)) = (cache, place, digest) {
            engine.attach(place.tiers(cache)?, &digest.finish(progress).await?, cache.deadline);
            if let Some(dir) = place.used() {
                engine.remember_rates(dir);
            }
            notes.extend(place.note);
        }
        let reload = async move || Engine::load(&Checkpoint::open(&path).await?, &options, &mut |_| {}).await;
        let answers = Answers::new(engine, &language.tokenizer, Some(Box::new(reload)));
        Ok(Self { language, answers, notes })
    }

    /// Asks for an answer, whose news [`Answers::run`] brings.
    ///
    /// # Errors
    /// [`Error::Context`] for a conversation without room for an answer; as [`Language::tokens`] and [`Answers::ask`].
    pub(super) fn ask(&mut self, body: Body) -> Result<Asked> {
        let arrived = Instant::now();
        let tokens = self.language.tokens(&body.input)?;
        let engine = self.answers.engine();
        let context = engine.context();
        if tokens.len() >= context && matches!(body.input, Input::Conversation(_)) {
            return Err(Error::Context { tokens: tokens.len(), context });
        }
        let thinks = opens_thinking(&self.language.tokenizer, &tokens);
        let request = body.request(tokens, engine.config(), context, new_seed);
        let id = self.answers.ask(request, body.stops, arrived)?;
        Ok(Asked { id, thinks })
    }
}

/// What waits to be saved is saved first.
impl Drop for Session {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Whoever wants to know saves before.
            let _ = pollster::block_on(self.answers.engine_mut().persist());
        }
    }
}

fn opens_thinking(tokenizer: &Tokenizer, prompt: &[u32]) -> bool {
    let [open, _] = THINKING;
    // Every token is a byte at least, and a template puts a line break or two behind the tag.
    let end = &prompt[prompt.len().saturating_sub(open.len() + 4)..];
    tokenizer.decode(end, false).trim_end().ends_with(open)
}

/// For a request that gives none.
fn new_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
