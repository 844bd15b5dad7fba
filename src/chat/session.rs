//! A model that is ready to answer: its language, the engine with the tiers behind it, and the loop. [`Chat`](super::Chat)
//! and the command line both stand on it.

use std::path::PathBuf;

use web_time::Instant;

use super::cache::CacheOptions;
use crate::engine::answers::{AnswerId, Answers};
use crate::engine::openai::Body;
use crate::engine::{Engine, EngineOptions, Progress, Stage, language::Language};
use crate::error::{Error, Result};
use crate::model::Config;
use crate::store::Tiers;
use crate::text::{THINKING, Tokenizer};
use crate::weights::Checkpoint;

/// A model's files, read as far as they must be without a GPU.
pub struct Model {
    pub path: PathBuf,
    pub checkpoint: Checkpoint,
    pub config: Config,
    pub language: Language,
}

impl Model {
    /// # Errors
    /// As [`Checkpoint::open`], [`Config::from_checkpoint`] and [`Language::open`].
    pub async fn open(path: PathBuf) -> Result<Self> {
        let checkpoint = Checkpoint::open(&path).await?;
        let config = Config::from_checkpoint(&checkpoint)?;
        let language = Language::open(&checkpoint)?;
        Ok(Self { path, checkpoint, config, language })
    }
}

/// Hears how a model is loaded, and that it is loaded again after its GPU was lost.
pub trait Watch {
    /// How far loading is.
    fn progress(&mut self, progress: Progress);

    /// The GPU was lost, and loading begins again.
    fn lost(&mut self) {}

    /// Loading is done.
    fn loaded(&mut self, _: &Engine) {}
}

impl<F: FnMut(Progress)> Watch for F {
    fn progress(&mut self, progress: Progress) {
        self(progress);
    }
}

/// A model on the GPU.
pub struct Session {
    /// Where its files are.
    pub path: PathBuf,
    pub language: Language,
    pub answers: Answers,
    /// Why nothing is kept in the directory, if one was to be used and cannot be.
    pub unkept: Option<Error>,
    /// Milliseconds from the start of loading to an engine that can answer.
    pub load_ms: f64,
    /// The part of them after all weights were uploaded, in which the last shaders were compiled.
    pub compile_ms: f64,
}

/// An answer that was asked for.
pub struct Asked {
    pub id: AnswerId,
    /// Whether the prompt ends with the tag that opens thinking.
    pub thinks: bool,
    /// The seed that gives the answer again. Greedy answers have none.
    pub seed: Option<u64>,
}

impl Session {
    /// Puts a model on the GPU, with the tiers of `cache` if there are to be any.
    ///
    /// # Errors
    /// What the GPU reports, and as [`CacheOptions`] says of its fields.
    pub async fn start(
        model: Model,
        options: EngineOptions,
        cache: Option<&CacheOptions>,
        mut watch: Box<dyn Watch>,
    ) -> Result<Self> {
        let Model { path, checkpoint, language, .. } = model;
        let packs = match cache {
            Some(cache) => cache.read_packs().await?,
            None => Vec::new(),
        };
        // The digest takes one pass over the files, and the engine another: they go side by side.
        let digest = cache.map(|cache| cache.digest(&path));
        let options = EngineOptions { ttl: cache.and_then(|cache| cache.ttl).or(options.ttl), ..options };
        let (started, mut shaders) = (Instant::now(), None);
        let mut progress = |progress: Progress| {
            if progress.stage == Stage::Shaders {
                shaders.get_or_insert_with(Instant::now);
            }
            watch.progress(progress);
        };
        let mut engine = Engine::load(&checkpoint, &options, &mut progress).await?;
        let ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
        let (load_ms, compile_ms) = (ms(started), shaders.map_or(0.0, ms));
        let mut unkept = None;
        if let (Some(cache), Some(digest)) = (cache, digest) {
            let digest = digest.finish(&mut |progress| watch.progress(progress)).await?;
            unkept = cache.attach(&mut engine, &digest, packs)?;
        }
        watch.loaded(&engine);
        let again = path.clone();
        let reload = async move || {
            watch.lost();
            let checkpoint = Checkpoint::open(&again).await?;
            let engine = Engine::load(&checkpoint, &options, &mut |progress| watch.progress(progress)).await?;
            watch.loaded(&engine);
            Ok(engine)
        };
        let answers = Answers::new(engine, &language.tokenizer, Some(Box::new(reload)));
        Ok(Self { path, language, answers, unkept, load_ms, compile_ms })
    }

    pub fn engine(&self) -> &Engine {
        self.answers.engine()
    }

    /// What a person should know of how the model was loaded, and of the stores behind it, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let unkept = self.unkept.iter().map(|problem| format!("nothing is kept for later runs: {problem}"));
        let stores = self.engine().tiers().into_iter().flat_map(Tiers::stores);
        let problems = stores.filter_map(|store| Some(format!("prefix cache: {}", store.problem()?)));
        self.engine().notes().iter().cloned().chain(unkept).chain(problems).collect()
    }

    /// Asks for an answer, whose news [`Answers::run`] brings.
    ///
    /// # Errors
    /// As [`Language::tokens`] and [`Answers::ask`].
    pub fn ask(&mut self, body: &Body) -> Result<Asked> {
        let arrived = Instant::now();
        let tokens = self.language.tokens(&body.input)?;
        self.ask_tokens(tokens, body, arrived)
    }

    /// As [`Session::ask`], for an input that was turned into tokens before. `arrived` is when work on it began.
    ///
    /// # Errors
    /// As [`Answers::ask`].
    pub fn ask_tokens(&mut self, tokens: Vec<u32>, body: &Body, arrived: Instant) -> Result<Asked> {
        let thinks = opens_thinking(&self.language.tokenizer, &tokens);
        let engine = self.answers.engine();
        let request = body.request(tokens, engine.config(), engine.context(), new_seed);
        let seed = (!request.sampling.is_greedy()).then_some(request.sampling.seed);
        let id = self.answers.ask(request, body.stops.clone(), arrived)?;
        Ok(Asked { id, thinks, seed })
    }
}

/// Saves what waits to be saved.
impl Drop for Session {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A caller that wants to know of errors saves before.
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

/// A seed for requests that give none.
pub(crate) fn new_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
