//! The only owner of the loop: answers by id, independent of the sequences and devices that compute them.
//!
//! [`Answers`] owns the [`Engine`], and nothing else steps it. The events of a step are routed to the answers, which
//! keep text, stop strings, usage and times, and are reported as [`Update`]s. No answer ends silently: one that cannot
//! continue is reported as failed, with the reason, and the engine goes on to serve others. If the device is lost,
//! answers in progress continue on another, see [`Reload`].

mod answer;
mod reload;

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::task::Poll;

use web_time::Instant;

use answer::Live;
pub use answer::{Answer, Timings};
pub use reload::{MAX_LOSSES, Reload, Reloading};

use super::{Engine, Event, FinishReason, Request};
use crate::error::{Error, Result};
use crate::text::{StopStrings, Tokenizer};

/// Identifies an answer, from [`Answers::ask`] to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnswerId(pub u64);

/// News of one answer.
#[derive(Debug)]
pub struct Update {
    /// The answer that it is about.
    pub id: AnswerId,
    /// The news.
    pub what: What,
}

/// What happened to an answer.
#[derive(Debug)]
pub enum What {
    /// `done` of the prompt's `total` tokens are computed or were known. It reaches `total` before the first token.
    /// After a lost device it starts again.
    Prompt {
        /// Prompt tokens, reused ones included.
        done: usize,
        /// All prompt tokens.
        total: usize,
    },
    /// Logits of a prompt position, if the request asks for them.
    PromptLogits {
        /// Index, from 0, of the prompt token that they follow.
        position: usize,
        /// `[vocab]`, before penalties and biases.
        logits: Vec<f32>,
    },
    /// A token, the text that it adds (often none), and, if the request asks for them, the logits that it was chosen
    /// from. Text that was held back to the end belongs to no token.
    Text {
        /// Whole characters, up to a stop string.
        text: String,
        /// `None` for text that was held back to the end.
        token: Option<u32>,
        /// `[vocab]`, before penalties and biases.
        logits: Option<Vec<f32>>,
    },
    /// The answer has ended, on its own or by [`Answers::cancel`].
    Finished(Box<Answer>),
    /// The answer could not continue.
    Failed(Error),
}

/// For [`Answers::run`], if nobody needs the news.
pub fn unheard(_: &[What]) -> Result<ControlFlow<()>> {
    Ok(ControlFlow::Continue(()))
}

/// An engine and the answers it computes.
pub struct Answers {
    engine: Engine,
    tokenizer: Tokenizer,
    reload: Option<Box<dyn Reload>>,
    live: Vec<Live>,
    /// Updates that nobody has taken yet.
    told: Vec<Update>,
    next_id: u64,
    /// Devices lost in a row, without a step that worked.
    losses: usize,
}

impl Answers {
    /// Without `reload`, a lost device fails the answers in progress and all later ones.
    pub fn new(engine: Engine, tokenizer: &Tokenizer, reload: Option<Box<dyn Reload>>) -> Self {
        let tokenizer = tokenizer.clone();
        Self { engine, tokenizer, reload, live: Vec::new(), told: Vec::new(), next_id: 0, losses: 0 }
    }

    /// The engine, for everything besides answers. A lost device replaces it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Mutable access to the engine.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Submits a request. `arrived` is when work on it began, before templates and tokens; natively it is a
    /// [`std::time::Instant`], which the crate `web_time` replaces in browsers. With `max_tokens` 0, only the prompt is
    /// computed, for later requests.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn ask(&mut self, mut request: Request, stops: StopStrings, arrived: Instant) -> Result<AnswerId> {
        request.stop_tokens.extend(stops.special_tokens(&self.tokenizer)?);
        let sequence = self.engine.submit(request.clone())?;
        self.next_id += 1;
        let id = AnswerId(self.next_id);
        let live = Live::new(id, sequence, request, &self.tokenizer, stops, arrived);
        self.live.push(live);
        if self.live.last().is_some_and(Live::is_stopped) {
            self.stop(self.live.len() - 1);
        }
        Ok(id)
    }

    /// Whether a step has anything to do: any answer that is in progress and not held, or any update that was not taken.
    pub fn is_busy(&self) -> bool {
        self.live.iter().any(|live| !live.is_held) || !self.told.is_empty()
    }

    /// Whether any answer is under way, or anything is still to be told.
    pub(in crate::engine) fn has_answers(&self) -> bool {
        !self.live.is_empty() || !self.told.is_empty()
    }

    /// Holds an answer where it is, or lets it go on, for a reader that is slower than the engine. Other answers go on meanwhile,
    /// and take its place and its pages if there are no others. A step in flight may still bring a token. Does nothing if the
    /// answer has ended or never existed.
    pub fn hold(&mut self, id: AnswerId, still: bool) {
        let Some(live) = self.live.iter_mut().find(|live| live.id == id) else { return };
        live.is_held = still;
        self.engine.hold(live.sequence, still);
    }

    /// The updates that were not taken yet; if there are none, the updates of one step for all answers, often none.
    /// Without answers, a step saves some of the blocks that wait to be saved.
    ///
    /// # Errors
    /// The error of a step without answers. If answers are in progress, each is reported as failed instead.
    pub async fn step(&mut self) -> Result<Vec<Update>> {
        if self.told.is_empty() {
            self.advance().await?;
        }
        Ok(self.take())
    }

    /// Takes the updates that were not taken yet.
    pub fn take(&mut self) -> Vec<Update> {
        std::mem::take(&mut self.told)
    }

    /// Ends an answer at once, with the text that was held back and its account so far. What it computed stays in the
    /// cache. Nothing happens if it has ended or never existed.
    pub fn cancel(&mut self, id: AnswerId) {
        let Some(at) = self.live.iter().position(|live| live.id == id) else { return };
        let live = &mut self.live[at];
        if let Some(report) = self.engine.report(live.sequence) {
            live.account(report);
        }
        self.engine.cancel(live.sequence);
        self.finish(at, None);
    }

    /// Steps until an answer has ended, and no longer holds it. Other answers progress too, and their updates wait to be taken.
    /// After every step, `each` gets the news of this answer except its end, often none; `Break` or an error ends the answer.
    /// Between steps the future yields once, so that other tasks of the thread run. Dropping the future cancels the
    /// answer and discards its news.
    ///
    /// # Errors
    /// The error of the answer or of `each`; [`Error::Request`] if there is no such answer.
    pub async fn run(
        &mut self,
        id: AnswerId,
        each: &mut dyn FnMut(&[What]) -> Result<ControlFlow<()>>,
    ) -> Result<Answer> {
        self.hold(id, false);
        let Run(answers, _) = &mut Run(self, id);
        loop {
            if answers.live.iter().any(|live| live.id == id) {
                answers.advance().await?;
            } else if answers.told.iter().all(|update| update.id != id) {
                return Err(Error::Request { field: "answer", problem: "has ended, or was never asked for".into() });
            }
            let (news, end) = answers.claim(id);
            match (each(&news)?, end) {
                (_, Some(end)) => return end,
                (ControlFlow::Continue(()), None) => yield_now().await,
                (ControlFlow::Break(()), None) => {
                    answers.cancel(id);
                    // Text that was held back belongs to the answer. The returned flow no longer matters.
                    let (news, end) = answers.claim(id);
                    let _ = each(&news)?;
                    if let Some(end) = end {
                        return end;
                    }
                }
            }
        }
    }

    /// Saves all waiting blocks in every tier. Call it when nothing runs.
    ///
    /// # Errors
    /// As [`Engine::persist`]. If the device is lost and replaced, the waiting blocks are lost.
    pub async fn persist(&mut self) -> Result<()> {
        match self.engine.persist().await {
            Err(lost @ Error::DeviceLost { .. }) => self.recover(lost).await,
            saved => saved,
        }
    }

    /// Saves some of the waiting blocks, and returns whether more wait. Call it when nothing runs and a request may
    /// come.
    ///
    /// # Errors
    /// As [`Answers::persist`].
    pub async fn persist_some(&mut self) -> Result<bool> {
        match self.engine.persist_some().await {
            Err(lost @ Error::DeviceLost { .. }) => self.recover(lost).await.map(|()| self.engine.has_unsaved()),
            saved => saved,
        }
    }

    /// As [`Answers::persist_some`]; then recomputes some of the KV that decoding wrote, for requests with exact reuse.
    /// Returns whether more waits.
    ///
    /// # Errors
    /// As [`Answers::persist`].
    pub async fn heal_some(&mut self) -> Result<bool> {
        if self.persist_some().await? {
            return Ok(true);
        }
        match self.engine.heal_some().await {
            Err(lost @ Error::DeviceLost { .. }) => self.recover(lost).await.map(|()| false),
            healed => Ok(healed? || self.engine.has_unsaved()),
        }
    }

    /// One step of the engine.
    async fn advance(&mut self) -> Result<()> {
        let error = match self.engine.step().await {
            Ok(events) => {
                // A step that only launched a prompt's rows does not prove that the device works.
                if !events.is_empty() {
                    self.losses = 0;
                }
                self.accept(events);
                return Ok(());
            }
            Err(error) => error,
        };
        let told = !self.live.is_empty();
        let outcome = match error {
            lost @ Error::DeviceLost { .. } => self.recover(lost).await,
            other => {
                self.fail(&other);
                Err(other)
            }
        };
        outcome.or_else(|error| if told { Ok(()) } else { Err(error) })
    }

    /// Routes the events of a step.
    fn accept(&mut self, events: Vec<Event>) {
        // Accounts come first: a stop string may end an answer before its last event is reached.
        for event in &events {
            if let Event::Finished { sequence, cache, .. } = event
                && let Some(live) = self.live.iter_mut().find(|live| live.sequence == *sequence)
            {
                live.account(cache);
            }
        }
        for event in events {
            let (Event::Logits { sequence, .. }
            | Event::PromptLogits { sequence, .. }
            | Event::Token { sequence, .. }
            | Event::Finished { sequence, .. }) = event;
            let Some(at) = self.live.iter().position(|live| live.sequence == sequence) else { continue };
            let id = self.live[at].id;
            match event {
                Event::Logits { logits, .. } => self.live[at].logits = Some(logits),
                // After a lost device, some positions are computed again.
                Event::PromptLogits { position, .. } if position < self.live[at].told_logits => {}
                Event::PromptLogits { position, logits, .. } => {
                    self.live[at].told_logits = position + 1;
                    self.tell(id, What::PromptLogits { position, logits });
                }
                Event::Token { token, .. } => self.token(at, token),
                Event::Finished { reason, .. } => {
                    if self.live[at].is_reading() && reason != FinishReason::Context {
                        self.mark(at);
                    }
                    self.finish(at, Some(reason));
                }
            }
        }
        for live in self.live.iter_mut().filter(|live| live.is_reading()) {
            if let Some((done, total)) = self.engine.progress(live.sequence)
                && done > live.read
            {
                live.read = done;
                self.told.push(Update { id: live.id, what: What::Prompt { done, total } });
            }
        }
    }

    fn token(&mut self, at: usize, token: u32) {
        self.mark(at);
        let live = &mut self.live[at];
        if let Some(report) = self.engine.report(live.sequence) {
            live.account(report);
        }
        let (id, text, logits) = (live.id, live.take(token), live.logits.take());
        let stopped = live.is_stopped();
        self.tell(id, What::Text { text, token: Some(token), logits });
        if stopped {
            self.stop(at);
        }
    }

    /// Records that the prompt of an answer is done, and reports it once.
    fn mark(&mut self, at: usize) {
        let live = &mut self.live[at];
        let (id, total) = (live.id, live.prompt_tokens());
        let read = std::mem::replace(&mut live.read, total);
        live.mark();
        if read < total {
            self.tell(id, What::Prompt { done: total, total });
        }
    }

    /// Ends an answer at a stop string.
    fn stop(&mut self, at: usize) {
        let live = self.live.remove(at);
        self.engine.cancel(live.sequence);
        self.tell(live.id, What::Finished(live.finish(Some(FinishReason::Stop)).into()));
    }

    fn finish(&mut self, at: usize, reason: Option<FinishReason>) {
        let mut live = self.live.remove(at);
        let (id, text) = (live.id, live.rest());
        if !text.is_empty() {
            self.tell(id, What::Text { text, token: None, logits: None });
        }
        let reason = if live.is_stopped() { Some(FinishReason::Stop) } else { reason };
        self.tell(id, What::Finished(live.finish(reason).into()));
    }

    /// Ends every answer with `error`.
    fn fail(&mut self, error: &Error) {
        for live in std::mem::take(&mut self.live) {
            self.engine.cancel(live.sequence);
            self.tell(live.id, What::Failed(error.clone()));
        }
    }

    fn tell(&mut self, id: AnswerId, what: What) {
        self.told.push(Update { id, what });
    }

    /// Takes the news of one answer, and its end if it has ended.
    fn claim(&mut self, id: AnswerId) -> (Vec<What>, Option<Result<Answer>>) {
        let (mut news, mut end) = (Vec::new(), None);
        for update in self.told.extract_if(.., |update| update.id == id) {
            match update.what {
                What::Finished(answer) => end = Some(Ok(*answer)),
                What::Failed(error) => end = Some(Err(error)),
                what => news.push(what),
            }
        }
        (news, end)
    }
}

/// An answer that a future waits for. When the future ends or is dropped, the answer is cancelled and its news are
/// discarded.
struct Run<'a>(&'a mut Answers, AnswerId);

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.cancel(self.1);
        self.0.claim(self.1);
    }
}

/// Is pending once, so that the executor can run other tasks.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
