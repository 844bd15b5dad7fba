//! What an engine may know of a prompt, mode by mode, and a timed request in each mode.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use web_time::Instant;

use crate::cli::interrupt::Work;
use crate::engine::Request;
use crate::engine::answers::{Answer, AnswerId, Answers, What};
use crate::error::{Error, Result};
use crate::kv::Sources;
use crate::store::{
    Background, BackgroundConfig, FilesystemConfig, FilesystemStore, MemoryStore, Seal, Store, Tiers, TiersConfig,
    system_clock,
};
use crate::text::StopStrings;

/// The earlier work that a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Nothing, not even its own: everything is computed again for every token.
    NoKvCache,
    /// Its own keys and values.
    KvCache,
    /// The prefix cache, which knows nothing of it.
    Cold,
    /// Pages on the GPU.
    GpuHit,
    /// Host memory, and nothing on the GPU.
    MemoryHit,
    /// A directory, and nothing on the GPU or in memory.
    DiskHit,
    /// All of its prompt and the last hidden state.
    ExactRepeat,
    /// What a hit cannot save: the last step of a prefill, at its place in the context, after the GPU has done all before it.
    SuffixAlone,
}

impl Mode {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NoKvCache => "no KV cache",
            Self::KvCache => "KV cache only",
            Self::Cold => "prefix cache, cold",
            Self::GpuHit => "hit on the GPU",
            Self::MemoryHit => "hit in memory",
            Self::DiskHit => "hit on disk",
            Self::ExactRepeat => "exact repeat",
            Self::SuffixAlone => "suffix alone",
        }
    }
}

/// One request, timed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) prompt_tokens: usize,
    pub(crate) sources: Sources,
    /// From submission to the first token; of a suffix alone, from when its step began.
    pub(crate) ttft_ms: f64,
    /// From there to the end of the answer.
    pub(crate) answer_ms: f64,
}

/// An engine whose tiers can be changed, and the directory that one of them is in.
pub(crate) struct Bench<'a> {
    pub(crate) answers: &'a mut Answers,
    work: &'a Work,
    folder: Folder,
    answer: usize,
}

/// Memory for the KV of all that is measured.
const MEMORY: u64 = 8 << 30;
/// The tiers are the bench's own, so any name for the weights will do.
const WEIGHTS: &str = "bench";
/// Long enough that it never cuts a measurement.
const DEADLINE: Duration = Duration::from_secs(600);

impl<'a> Bench<'a> {
    /// Answers have `answer` tokens. Files go into the system's directory for temporary files.
    pub(crate) fn new(answers: &'a mut Answers, work: &'a Work, answer: usize) -> Result<Self> {
        Ok(Self { answers, work, folder: Folder::create()?, answer })
    }

    /// Drops all KV in every tier, and begins to keep KV in memory and on disk.
    pub(crate) fn forget(&mut self) -> Result<()> {
        self.folder.renew();
        self.keep(MEMORY);
        Ok(())
    }

    /// Prepares the tiers for a request in `mode`. No store works beside the request.
    pub(crate) fn recall(&mut self, mode: Mode) -> Result<()> {
        pollster::block_on(self.answers.persist())?;
        match mode {
            Mode::NoKvCache | Mode::KvCache | Mode::GpuHit | Mode::ExactRepeat | Mode::SuffixAlone => {}
            Mode::Cold => self.forget()?,
            Mode::MemoryHit => self.answers.engine_mut().clear_cache(),
            Mode::DiskHit => self.keep(0),
        }
        Ok(())
    }

    fn keep(&mut self, memory: u64) {
        let config = FilesystemConfig { budget: MEMORY, ..FilesystemConfig::default() };
        let seal = Seal::new(b"of a directory that ends with the benchmark");
        let disk = || FilesystemStore::new(self.folder.current(), config, system_clock()).sealed(seal.clone());
        let behind: Vec<Box<dyn Store>> = vec![Box::new(Background::new(disk(), disk(), BackgroundConfig::default()))];
        let tiers = Tiers::new(MemoryStore::new(memory, system_clock()), behind, TiersConfig::default());
        let engine = self.answers.engine_mut();
        engine.attach(tiers, WEIGHTS, DEADLINE);
        engine.clear_cache();
    }

    /// Answers `prompt`, with whatever the engine knows of it.
    pub(crate) fn measure(&mut self, mode: Mode, prompt: &[u32]) -> Result<Sample> {
        let no_cache = matches!(mode, Mode::NoKvCache | Mode::KvCache);
        let mut request = Request { tokens: prompt.to_vec(), max_tokens: self.answer, no_cache, ..Request::default() };
        if mode != Mode::NoKvCache {
            return self.answer(request);
        }
        request.max_tokens = 1;
        let mut sample = self.answer(request.clone())?;
        for token in 1..self.answer {
            // The time does not depend on the token.
            request.tokens.push(token as u32);
            sample.answer_ms += self.answer(request.clone())?.answer_ms;
        }
        Ok(sample)
    }

    /// Times the second and last step of `prompt`, after the GPU has done the first. Nothing else may be under way.
    pub(crate) fn second_step(&mut self, prompt: &[u32]) -> Result<Sample> {
        let request = Request { tokens: prompt.to_vec(), max_tokens: self.answer, ..Request::default() };
        let id = self.answers.ask(request, StopStrings::default(), Instant::now())?;
        pollster::block_on(self.answers.step())?;
        self.answers.engine_mut().drain()?;
        pollster::block_on(self.answers.persist())?;
        self.finish(id, Instant::now())
    }

    fn answer(&mut self, request: Request) -> Result<Sample> {
        let began = Instant::now();
        let id = self.answers.ask(request, StopStrings::default(), began)?;
        self.finish(id, began)
    }

    fn finish(&mut self, id: AnswerId, began: Instant) -> Result<Sample> {
        let (work, mut first) = (self.work, None);
        let mut each = |news: &[What]| {
            if news.iter().any(|what| matches!(what, What::Text { .. })) {
                first = first.or(Some(ms(began)));
            }
            Ok(work.flow())
        };
        let Answer { usage, cache, finish_reason, .. } = pollster::block_on(self.answers.run(id, &mut each))?;
        if finish_reason.is_none() {
            return Err(Error::Interrupted);
        }
        let answer_ms = ms(began);
        let ttft_ms = first.unwrap_or(answer_ms);
        Ok(Sample { prompt_tokens: usage.prompt_tokens, sources: cache.sources, ttft_ms, answer_ms })
    }
}

/// Finishes writing before the folder is removed.
impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let _ = pollster::block_on(self.answers.persist());
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// A private directory that is removed when dropped. It holds a numbered directory for each measurement.
struct Folder {
    root: PathBuf,
    number: usize,
}

impl Folder {
    fn create() -> Result<Self> {
        let root = std::env::temp_dir().join(format!("headstart-bench-{}", std::process::id()));
        std::fs::create_dir(&root).map_err(|error| Error::io(&root, error))?;
        Ok(Self { root, number: 0 })
    }

    fn current(&self) -> PathBuf {
        self.root.join(self.number.to_string())
    }

    /// Goes on to a new directory, since a store may still be writing to the last.
    fn renew(&mut self) {
        let _ = std::fs::remove_dir_all(self.current());
        self.number += 1;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
