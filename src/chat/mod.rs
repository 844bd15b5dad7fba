//! A conversation with a model, for Rust programs. [`Chat`] opens the model, keeps its KV on disk, holds the history and
//! answers.
//!
//! It computes nothing itself. For every answer it renders the whole conversation and asks [`Answers`]; the engine finds the
//! part of it that need not be computed again.
//!
//! Each operation has one implementation, an `async fn`. The method without `_async` in its name runs that to its end on the
//! calling thread.

mod builder;
pub(crate) mod cache;
#[doc(hidden)]
pub mod pieces;
#[doc(hidden)]
pub mod session;

use std::ops::ControlFlow;
use std::path::Path;

use pollster::block_on;

use crate::engine::answers::{Answer, Answers, What};
use crate::engine::openai::{Body, Input};
use crate::engine::{Engine, language::Language};
use crate::error::{Error, Result};
use crate::sample::SamplingOverrides;
use crate::text::{Message, Prompt, StopStrings};

pub use builder::ChatBuilder;
pub use cache::CacheOptions;
#[cfg(feature = "remote")]
pub use cache::SharedStore;
pub use pieces::Piece;
use pieces::Pieces;
use session::{Asked, Session};

/// A conversation with a model: the model, the messages, and the KV computed for them.
///
/// ```no_run
/// use headstart::Chat;
///
/// let mut chat = Chat::open("SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let answer = chat.say("Why is the sky blue?", |piece| print!("{piece}"))?;
/// println!("\n{} of {} prompt tokens were known", answer.usage.cached_tokens, answer.usage.prompt_tokens);
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Which model
///
/// A path is opened as it is, and nothing is asked of a network. With the feature `hub`, [`find_model`](crate::find_model) gives
/// the path of a model by the names that the `headstart` program takes, and downloads what is not on this machine:
///
#[cfg_attr(feature = "hub", doc = "```no_run")]
#[cfg_attr(not(feature = "hub"), doc = "```ignore")]
/// let path = headstart::find_model("Qwen/Qwen3-0.6B-GGUF:Q8_0", &mut |_| {})?;
/// let mut chat = headstart::Chat::open(path)?;
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # What it keeps
///
/// The KV of prompts and answers stays on the GPU, in memory and in a directory, so that neither the next turn nor the next
/// process computes it again. By default that directory is the one of the `headstart` program, and each finds what the other
/// stored. It holds the texts in a readable form, for this user alone. [`ChatBuilder::cache`] moves or bounds it, and
/// [`ChatBuilder::no_cache_dir`] does without. [`CacheOptions`] also takes prefix packs and, with the feature `remote`, a store
/// that several machines share, such as Redis or a bucket that speaks S3. KV is saved while answers are computed; dropping the
/// chat saves the rest.
///
/// # Stopping an answer
///
/// The closure that hears the pieces ends the answer by returning [`ControlFlow::Break`], see [`Flow`]; what was said until
/// then stays in the conversation. Dropping the future of an `_async` method ends it too, and leaves the conversation as it
/// was. So does an error.
///
/// ```no_run
/// # let mut chat = headstart::Chat::open("model.gguf")?;
/// use std::ops::ControlFlow;
///
/// let mut line = String::new();
/// let answer = chat.say("Tell me a story.", |piece| {
///     line += piece.text;
///     if line.contains('\n') { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
/// })?;
/// assert!(answer.finish_reason.is_none(), "the reader ended it");
/// # Ok::<(), headstart::Error>(())
/// ```
///
/// # Threads and async
///
/// A chat is not `Send`: one thread owns it. A program that serves many gives it a thread of its own and talks to that by
/// channels. The futures of the `_async` methods yield after every step of the model, and wait for the GPU within a step.
///
/// # Several conversations
///
/// One chat serves several conversations in turns: swap [`Chat::messages_mut`] for another history. What both begin with,
/// and what each had computed, is found and not computed again.
pub struct Chat {
    session: Session,
    prompt: Prompt,
    options: Options,
    /// Answers so far. With the seed it chooses the draws of the next one.
    answered: u64,
}

/// What all answers have in common.
#[derive(Clone)]
struct Options {
    max_tokens: Option<usize>,
    sampling: SamplingOverrides,
    stops: StopStrings,
    salt: String,
    exact: bool,
}

/// What a closure that hears an answer may return, to say whether the answer goes on.
///
/// | returned          | what happens                                    |
/// |-------------------|-------------------------------------------------|
/// | `()`              | it goes on                                      |
/// | `ControlFlow<()>` | it goes on, or ends here and keeps what was said |
/// | `Result` of these | an error ends it, and is what the call returns  |
pub trait Flow {
    /// Whether to go on.
    ///
    /// # Errors
    /// What the closure failed with.
    fn flow(self) -> Result<ControlFlow<()>>;
}

impl Flow for () {
    fn flow(self) -> Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }
}

impl Flow for ControlFlow<()> {
    fn flow(self) -> Result<ControlFlow<()>> {
        Ok(self)
    }
}

impl<F: Flow> Flow for Result<F> {
    fn flow(self) -> Result<ControlFlow<()>> {
        self?.flow()
    }
}

impl Chat {
    /// Opens the model at `path`, a GGUF file or a Hugging Face directory, with the defaults of [`Chat::builder`].
    ///
    /// # Errors
    /// As [`ChatBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// As [`Chat::open`], for async programs.
    ///
    /// # Errors
    /// As [`ChatBuilder::open`].
    pub async fn open_async(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open_async().await
    }

    /// Choices to make before the model is opened.
    pub fn builder(path: impl AsRef<Path>) -> ChatBuilder {
        ChatBuilder::new(path.as_ref())
    }

    /// Says `text` as the user and gives the answer's pieces to `each` as they come. Both become part of the conversation.
    ///
    /// # Errors
    /// [`Error::Context`] where the conversation leaves no room for an answer, [`Error::Template`] where the model's template
    /// refuses it, what `each` returned, and what the GPU reports. The conversation is then as it was.
    pub fn say<F: Flow>(&mut self, text: impl Into<String>, each: impl FnMut(Piece<'_>) -> F) -> Result<Answer> {
        block_on(self.say_async(text, each))
    }

    /// As [`Chat::say`], for async programs.
    ///
    /// # Errors
    /// As [`Chat::say`].
    pub async fn say_async<F: Flow>(
        &mut self,
        text: impl Into<String>,
        each: impl FnMut(Piece<'_>) -> F,
    ) -> Result<Answer> {
        self.stream(Some(Message::new("user", text)), each).await
    }

    /// Answers the conversation as it stands. It is for histories that [`Chat::messages_mut`] changed: a retry, an edited
    /// question, the result of a tool.
    ///
    /// # Errors
    /// As [`Chat::say`].
    pub fn answer<F: Flow>(&mut self, each: impl FnMut(Piece<'_>) -> F) -> Result<Answer> {
        block_on(self.answer_async(each))
    }

    /// As [`Chat::answer`], for async programs.
    ///
    /// # Errors
    /// As [`Chat::say`].
    pub async fn answer_async<F: Flow>(&mut self, each: impl FnMut(Piece<'_>) -> F) -> Result<Answer> {
        self.stream(None, each).await
    }

    /// Adds `said` to the conversation and answers. `each` gets all news, so also how far the prompt is, which is worth
    /// showing where prompts are long.
    ///
    /// # Errors
    /// As [`Chat::say`].
    pub async fn run(
        &mut self,
        said: Option<Message>,
        each: &mut dyn FnMut(&[What]) -> Result<ControlFlow<()>>,
    ) -> Result<Answer> {
        let Asked { id, .. } = self.ask(said.as_ref())?;
        let answer = self.session.answers.run(id, each).await?;
        Ok(self.keep(said, answer))
    }

    async fn stream<F: Flow>(&mut self, said: Option<Message>, mut each: impl FnMut(Piece<'_>) -> F) -> Result<Answer> {
        let Asked { id, thinks, .. } = self.ask(said.as_ref())?;
        let (mut pieces, mut each) = (Pieces::new(thinks), |piece: Piece<'_>| each(piece).flow());
        let mut hear = |news: &[What]| {
            let mut flow = ControlFlow::Continue(());
            for what in news {
                if let What::Text { text, .. } = what
                    && pieces.push(text, &mut each)?.is_break()
                {
                    flow = ControlFlow::Break(());
                }
            }
            Ok(flow)
        };
        let answer = self.session.answers.run(id, &mut hear).await?;
        pieces.finish(&mut each)?;
        Ok(self.keep(said, answer))
    }

    /// Asks for an answer to the conversation with `said` behind it.
    fn ask(&mut self, said: Option<&Message>) -> Result<Asked> {
        let mut prompt = self.prompt.clone();
        prompt.messages.extend(said.cloned());
        if prompt.messages.is_empty() {
            let problem = "is empty; say something first".into();
            return Err(Error::Request { field: "messages", problem });
        }
        let Options { max_tokens, mut sampling, stops, salt, exact } = self.options.clone();
        // The seed stands for the conversation. Each answer has draws of its own.
        sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(self.answered));
        let body = Body {
            max_tokens,
            sampling,
            stops,
            cache_salt: Some(salt),
            exact,
            ..Body::from(Input::Conversation(prompt.into()))
        };
        self.session.ask(&body)
    }

    fn keep(&mut self, said: Option<Message>, answer: Answer) -> Answer {
        self.answered += 1;
        self.prompt.messages.extend(said);
        self.prompt.messages.push(Message::new("assistant", &answer.text));
        answer
    }

    /// The conversation so far, the oldest message first. A system text is the first message.
    pub fn messages(&self) -> &[Message] {
        &self.prompt.messages
    }

    /// The same, to be changed: shortened, edited, replaced by another conversation.
    pub fn messages_mut(&mut self) -> &mut Vec<Message> {
        &mut self.prompt.messages
    }

    /// Forgets what was said. The system text stays.
    pub fn clear(&mut self) {
        self.prompt.messages.retain(|message| message.role == "system");
    }

    /// How tokens are chosen from now on. What is not set here is as the model's makers suggest.
    pub fn sampling_mut(&mut self) -> &mut SamplingOverrides {
        &mut self.options.sampling
    }

    /// Tokens that a conversation and its answer may hold together.
    pub fn context(&self) -> usize {
        self.engine().context()
    }

    /// What a person should know of how the model was loaded, and the last problem of each store, a sentence each; mostly
    /// nothing.
    pub fn notes(&self) -> Vec<String> {
        self.session.notes()
    }

    /// The model's tokenizer and template.
    pub fn language(&self) -> &Language {
        &self.session.language
    }

    /// The engine: its adapter, its counters, its tiers.
    pub fn engine(&self) -> &Engine {
        self.session.engine()
    }

    /// What answers this conversation, for requests beside it.
    pub fn answers_mut(&mut self) -> &mut Answers {
        &mut self.session.answers
    }

    /// Saves all that was computed, so that other processes find it now. Dropping the chat does the same and reports nothing.
    ///
    /// # Errors
    /// What the GPU reports; never for a store's sake.
    pub fn save(&mut self) -> Result<()> {
        block_on(self.save_async())
    }

    /// As [`Chat::save`], for async programs.
    ///
    /// # Errors
    /// As [`Chat::save`].
    pub async fn save_async(&mut self) -> Result<()> {
        self.session.answers.persist().await
    }
}
