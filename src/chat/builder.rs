//! What can be chosen before a model is opened.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::cache::CacheOptions;
use super::session::{Model, Session, Watch};
use super::{Chat, Options};
use crate::engine::{EngineOptions, Progress};
use crate::error::Result;
use crate::sample::SamplingOverrides;
use crate::text::{Message, PastThinking, Prompt, StopStrings};

/// Choices for a [`Chat`]; all of them may be left out.
///
/// ```no_run
/// use headstart::{Chat, EngineOptions, SamplingOverrides};
///
/// let sampling = SamplingOverrides { temperature: Some(0.7), seed: Some(1), ..SamplingOverrides::default() };
/// let chat = Chat::builder("Qwen3-0.6B-Q8_0.gguf")
///     .system("Answer in one sentence.")
///     .sampling(sampling)
///     .max_tokens(300)
///     .thinking(false)
///     .cache_dir("/var/lib/myprogram/kv")
///     .engine(EngineOptions { context: Some(4096), ..EngineOptions::default() })
///     .open()?;
/// # Ok::<(), headstart::Error>(())
/// ```
pub struct ChatBuilder {
    path: PathBuf,
    prompt: Prompt,
    engine: EngineOptions,
    cache: Option<CacheOptions>,
    max_tokens: Option<usize>,
    sampling: SamplingOverrides,
    stops: Vec<String>,
    exact: bool,
    watch: Box<dyn Watch>,
}

impl ChatBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            prompt: Prompt::from(Vec::new()),
            engine: EngineOptions::default(),
            cache: Some(CacheOptions::default()),
            max_tokens: None,
            sampling: SamplingOverrides::default(),
            stops: Vec::new(),
            exact: false,
            watch: Box::new(|_: Progress| {}),
        }
    }

    /// The system text: what the model should know and be. It becomes the first message.
    #[must_use]
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.prompt.messages.insert(0, Message::new("system", text));
        self
    }

    /// A conversation to continue, behind the system text. KV that earlier processes computed for it is found.
    #[must_use]
    pub fn messages(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.prompt.messages.extend(messages);
        self
    }

    /// Functions that the model may call, in the shape of OpenAI's API. A call is part of the answer's text, in the model's
    /// own notation.
    #[must_use]
    pub fn tools(mut self, tools: Vec<Value>) -> Self {
        self.prompt.tools = Some(Value::Array(tools));
        self
    }

    /// A variable of the model's chat template.
    #[must_use]
    pub fn template_variable(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.prompt.template_kwargs.get_or_insert_with(Map::new).insert(name.into(), value.into());
        self
    }

    /// Whether the model thinks before it answers, if its template leaves the choice. By default the template decides.
    #[must_use]
    pub fn thinking(self, thinks: bool) -> Self {
        // Qwen's and SmolLM's name, and Granite's.
        self.template_variable("enable_thinking", thinks).template_variable("thinking", thinks)
    }

    /// Whether to keep what the model thought before the last question. By default the template decides.
    #[must_use]
    pub fn past_thinking(mut self, past: PastThinking) -> Self {
        self.prompt.past_thinking = Some(past);
        self
    }

    /// Treats control tokens that messages spell out, such as `<|im_end|>`, as text. By default the model reads them as
    /// control tokens, as in transformers. Use this for texts of people who are not trusted.
    #[must_use]
    pub fn split_special_tokens(mut self) -> Self {
        self.prompt.split_special_tokens = true;
        self
    }

    /// The time that the template uses, in seconds since 1970; by default that of the system's clock. With a fixed time the
    /// prompt stays the same from day to day.
    #[must_use]
    pub fn now(mut self, seconds: i64) -> Self {
        self.prompt.now = Some(seconds);
        self
    }

    /// How tokens are chosen. Parameters that are not set come from the model's generation config, or are greedy. Without a seed
    /// every answer has a new one; with a seed the same conversation comes again.
    #[must_use]
    pub fn sampling(mut self, sampling: SamplingOverrides) -> Self {
        self.sampling = sampling;
        self
    }

    /// Most tokens of an answer. By default the context is the limit.
    #[must_use]
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Texts that end an answer. It stops before the first of them. The model's own stop tokens always end it.
    #[must_use]
    pub fn stops(mut self, texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.stops = texts.into_iter().map(Into::into).collect();
        self
    }

    /// Options of the engine: the context, the format of weights, the kernels and more.
    #[must_use]
    pub fn engine(mut self, options: EngineOptions) -> Self {
        self.engine = options;
        self
    }

    /// Where KV is kept beyond the GPU, and how much of it.
    #[must_use]
    pub fn cache(mut self, options: CacheOptions) -> Self {
        self.cache = Some(options);
        self
    }

    /// The directory that KV is kept in. No other user may own it or write to it.
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache.get_or_insert_default().dir = Some(dir.into());
        self
    }

    /// Keeps KV on the GPU alone. Turns of the chat reuse it. Other processes find nothing, and no directory is read or made.
    #[must_use]
    pub fn no_cache_dir(mut self) -> Self {
        self.cache = None;
        self
    }

    /// Reuses only KV that is bit-identical to that of a cold run, so none that was computed while answering.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Reports how far loading is, also when the model is loaded again because its GPU was lost.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(Progress) + 'static) -> Self {
        self.watch = Box::new(progress);
        self
    }

    /// Opens the model and puts it on the GPU.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Format`](crate::Error::Format) and their like for files that cannot be run,
    /// [`Error::Template`](crate::Error::Template) for a model that cannot be chatted with,
    /// [`Error::Request`](crate::Error::Request) for a choice that cannot be, what the GPU reports, and as the fields of
    /// [`CacheOptions`] say.
    pub fn open(self) -> Result<Chat> {
        pollster::block_on(self.open_async())
    }

    /// As [`ChatBuilder::open`], for async programs.
    ///
    /// # Errors
    /// As [`ChatBuilder::open`].
    pub async fn open_async(self) -> Result<Chat> {
        let Self { path, prompt, engine, cache, max_tokens, sampling, stops, exact, watch } = self;
        let stops = StopStrings::new(stops)?;
        let model = Model::open(path).await?;
        // Wrong choices are reported before the model is loaded.
        sampling.over(&model.config.sampling.params(), || 0).validate(model.config.vocab)?;
        model.language.template()?;
        let session = Session::start(model, engine, cache.as_ref(), watch).await?;
        let salt = cache.map(|cache| cache.salt).unwrap_or_default();
        let options = Options { max_tokens, sampling, stops, salt, exact };
        Ok(Chat { session, prompt, options, answered: 0 })
    }
}
