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

    /// What the model should know and be. It becomes the first message.
    #[must_use]
    pub fn system(mut self, text: impl Into<String>) -> Self {
        self.prompt.messages.insert(0, Message::new("system", text));
        self
    }

    /// A conversation to go on with, behind the system text. What earlier processes computed of it is found.
    #[must_use]
    pub fn messages(mut self, messages: impl IntoIterator<Item = Message>) -> Self {
        self.prompt.messages.extend(messages);
        self
    }

    /// Functions that the model may call, as OpenAI's API has them. A call is part of the answer's text, in the model's own
    /// notation.
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

    /// Whether the model thinks before it answers, where its template leaves that open. By default the template decides.
    #[must_use]
    pub fn thinking(self, thinks: bool) -> Self {
        // Qwen's and SmolLM's name, and Granite's.
        self.template_variable("enable_thinking", thinks).template_variable("thinking", thinks)
    }

    /// What becomes of what was thought before the last question; by default what the template makes of it.
    #[must_use]
    pub fn past_thinking(mut self, past: PastThinking) -> Self {
        self.prompt.past_thinking = Some(past);
        self
    }

    /// Control tokens that messages spell out, such as `<|im_end|>`, are text. By default the model reads them as its own,
    /// as in transformers; for texts of people who are not trusted they had better be text.
    #[must_use]
    pub fn split_special_tokens(mut self) -> Self {
        self.prompt.split_special_tokens = true;
        self
    }

    /// What the template takes for now, in seconds since 1970; by default the system's clock. With a fixed date the prompt
    /// stays the same from day to day.
    #[must_use]
    pub fn now(mut self, seconds: i64) -> Self {
        self.prompt.now = Some(seconds);
        self
    }

    /// How tokens are chosen. What is not set is as the model's makers suggest, else greedy. Without a seed every answer has a
    /// new one; a seed gives the same conversation again.
    #[must_use]
    pub fn sampling(mut self, sampling: SamplingOverrides) -> Self {
        self.sampling = sampling;
        self
    }

    /// Most tokens of an answer; by default what the context leaves.
    #[must_use]
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Texts that end an answer, which stops before the first of them. The model's own stop tokens always end it.
    #[must_use]
    pub fn stops(mut self, texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.stops = texts.into_iter().map(Into::into).collect();
        self
    }

    /// The context, the formats of weights and the kernels.
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

    /// Keep KV on the GPU alone. Turns of the chat reuse it; other processes find nothing, and no directory is read or made.
    #[must_use]
    pub fn no_cache_dir(mut self) -> Self {
        self.cache = None;
        self
    }

    /// Reuse only what is bit-identical to a cold run: no token that was computed while answering.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Hears how far loading is, also when the model is loaded again because its GPU was lost.
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
        // What is wrong with the choices is told before the model is on the GPU.
        sampling.over(&model.config.sampling.params(), || 0).validate(model.config.vocab)?;
        model.language.template()?;
        let session = Session::start(model, engine, cache.as_ref(), watch).await?;
        let salt = cache.map(|cache| cache.salt).unwrap_or_default();
        let options = Options { max_tokens, sampling, stops, salt, exact };
        Ok(Chat { session, prompt, options, answered: 0 })
    }
}
