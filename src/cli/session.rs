//! From a model argument to a model that answers: resolve the name, open the files, load the engine with progress.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use web_time::Instant;

use crate::engine::answers::{Answer, Answers};
use crate::engine::language::Language;
use crate::engine::{Engine, EngineOptions, KvIdentity, Progress, Stage};
use crate::error::Result;
use crate::gpu::{Numerics, Preset};
use crate::kv::KvFormat;
use crate::model::{Config, Quantizable};
use crate::quant::Format;
use crate::weights::Checkpoint;

use super::args::{ModelArgs, whole};
use super::{report, term};

/// A model's files, read as far as they must be without a GPU.
pub(crate) struct Model {
    pub(crate) path: PathBuf,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) config: Config,
    pub(crate) language: Language,
}

#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Most tokens that prompt and answer may hold together [default: the model's own]
    #[arg(long, value_name = "TOKENS", value_parser = whole::<usize>)]
    pub(crate) context: Option<usize>,

    /// Quantise 16-bit and 32-bit weights while loading, to q8_0, q4_k or q4_0
    #[arg(long, value_name = "FORMAT", value_parser = quantize_format)]
    pub(crate) quantize: Option<Format>,

    /// How keys and values are kept: f16, or q8 (about half of the memory, at a small cost in perplexity, which `headstart
    /// score` tells); what is kept in one is not found in the other
    #[arg(long, value_name = "FORMAT", default_value_t, value_parser = kv_format)]
    pub(crate) kv: KvFormat,

    /// Which kernels run: auto (f16 for prompts where the GPU multiplies matrices of it), f32, f16 (slowly where it does not),
    /// or portable (f32, without subgroups) [default: auto]
    #[arg(long, value_name = "KERNELS", value_parser = preset)]
    pub(crate) kernels: Option<Preset>,
}

impl EngineArgs {
    /// What a person should know of how `model` is loaded so.
    pub(crate) fn warnings(&self, model: &Model) -> Result<Vec<String>> {
        let Some(format) = self.quantize else { return Ok(Vec::new()) };
        let Quantizable { matrices, left } = model.config.quantizable(&model.checkpoint, format)?;
        let warning = match (matrices, left) {
            (0, _) => "no matrix has 16- or 32-bit weights, so all stay as they are".to_owned(),
            (_, 0) => return Ok(Vec::new()),
            _ => format!("{left} of {matrices} matrices stay as they are: their rows are no whole blocks of {format}"),
        };
        Ok(vec![format!("--quantize {format}: {warning}")])
    }

    /// Whose KV a model has that is loaded so, with prompts of this class.
    pub(crate) fn identity(&self, model: &Model, weights_digest: &str, class: Numerics) -> KvIdentity {
        let context = self.context.unwrap_or(model.config.context);
        let config = model.config.clone().for_context(context).with_kv(self.kv);
        KvIdentity::new(&config, weights_digest, self.quantize, class)
    }
}

fn kv_format(name: &str) -> Result<KvFormat, String> {
    let names = KvFormat::ALL.map(|(name, _)| name).join(" or ");
    KvFormat::named(&name.to_ascii_lowercase()).ok_or_else(|| format!("use {names}"))
}

fn preset(name: &str) -> Result<Preset, String> {
    let names = Preset::ALL.map(|(name, _)| name).join(", ");
    Preset::named(&name.to_ascii_lowercase()).ok_or_else(|| format!("use one of {names}"))
}

fn quantize_format(name: &str) -> Result<Format, &'static str> {
    match name.to_ascii_lowercase().as_str() {
        "q8_0" => Ok(Format::Q8_0),
        "q4_0" => Ok(Format::Q4_0),
        "q4_k" => Ok(Format::Q4K),
        _ => Err("use q8_0, q4_0 or q4_k"),
    }
}

impl Model {
    pub(crate) fn open(args: &ModelArgs) -> Result<Self> {
        let (path, checkpoint) = args.open()?;
        let config = Config::from_checkpoint(&checkpoint)?;
        let language = Language::open(&checkpoint)?;
        Ok(Self { path, checkpoint, config, language })
    }
}

/// A model on the GPU.
pub(crate) struct Session {
    pub(crate) model: Model,
    pub(crate) answers: Answers,
    /// From the start of loading to an engine that can answer.
    pub(crate) load_ms: f64,
    /// The part of it that went to shaders.
    pub(crate) compile_ms: f64,
}

/// What an engine does otherwise than one would expect, and for whoever asked to hear more, what it is.
fn tell(engine: &Engine) {
    engine.notes().iter().for_each(|note| term::note(&format!("[{note}]")));
    let (adapter, kind) = (engine.adapter(), engine.adapter_kind());
    log::info!("adapter {adapter}, {kind:?}; prompts in {}", engine.numerics());
    log::info!("context {} tokens, {} prompt tokens a step", engine.context(), engine.chunk());
    log::debug!("{:?}", engine.caps());
}

impl Session {
    /// `ttl`: how long what nobody uses stays on the GPU; without, until its place is needed.
    pub(crate) fn start(model: Model, args: &EngineArgs, ttl: Option<Duration>) -> Result<Self> {
        let started = Instant::now();
        let mut bar = term::bar("loading", 0, "B");
        let mut shaders = None;
        let mut progress = |progress: Progress| {
            if progress.stage == Stage::Shaders && shaders.is_none() {
                shaders = Some(Instant::now());
                bar.finish_and_clear();
                bar = term::bar("compiling", 0, "shaders");
            }
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        };
        let EngineArgs { context, quantize, kernels, kv } = *args;
        let options = EngineOptions { context, quantize, kernels, kv, ttl, ..EngineOptions::default() };
        let engine = pollster::block_on(Engine::load(&model.checkpoint, &options, &mut progress));
        bar.finish_and_clear();
        let path = model.path.clone();
        let reload = async move || {
            term::note("[the GPU was lost; loading the model again]");
            Engine::load(&Checkpoint::open(&path).await?, &options, &mut |_| {}).await.inspect(tell)
        };
        let engine = engine.inspect(tell)?;
        let answers = Answers::new(engine, &model.language.tokenizer, Some(Box::new(reload)));
        let load_ms = started.elapsed().as_secs_f64() * 1e3;
        let compile_ms = shaders.map_or(0.0, |start| start.elapsed().as_secs_f64() * 1e3);
        log::info!("loaded in {load_ms:.0} ms, {compile_ms:.0} of them for shaders");
        Ok(Self { model, answers, load_ms, compile_ms })
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.answers.engine()
    }

    /// For whoever asked to hear more: where a prompt came from, how long its answer took, and what the tiers did so far.
    pub(crate) fn log(&self, answer: &Answer) {
        log::info!("{}", report::cache(&answer.cache));
        log::info!("{}", report::timings(self.load_ms, &answer.timings));
        log::debug!("{}", report::tiers(self.engine()));
    }

    /// Saves what was computed for later runs.
    pub(crate) fn persist(&mut self) -> Result<()> {
        pollster::block_on(self.answers.persist())
    }
}
