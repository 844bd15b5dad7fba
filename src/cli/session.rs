//! Loads a model for the command line: the engine's flags, progress bars and notes.

use clap::Args;
use indicatif::ProgressBar;
use pollster::block_on;

use crate::chat::cache::{CacheOptions, Digest};
use crate::chat::session::{Model, Session, Watch};
use crate::engine::answers::Answer;
use crate::engine::openai::Input;
use crate::engine::{Engine, EngineOptions, KvIdentity, Progress, Stage};
use crate::error::Result;
use crate::gpu::{Numerics, Preset};
use crate::kv::KvFormat;
use crate::model::Quantizable;
use crate::quant::Format;

use super::args::whole;
use super::cache::recall;
use super::{report, term};

#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Most tokens that prompt and answer may hold together [default: the model's own]
    #[arg(long, value_name = "TOKENS", value_parser = whole::<usize>)]
    pub(crate) context: Option<usize>,

    /// Quantise 16-bit and 32-bit weights while loading, to q8_0, q4_k or q4_0
    #[arg(long, value_name = "FORMAT", value_parser = quantize_format)]
    pub(crate) quantize: Option<Format>,

    /// Format of keys and values: f16, or q8 (about half of the memory, at a small cost in perplexity, which `headstart score`
    /// tells). KV of one format is never reused in the other
    #[arg(long, value_name = "FORMAT", default_value_t, value_parser = kv_format)]
    pub(crate) kv: KvFormat,

    /// Which kernels run: auto (f16 for prompts where the GPU multiplies matrices of it), f32, f16 (slowly where it does not),
    /// int8 (prompts in 8 bits, for GPUs without such matrices; slower on a CPU; `headstart score` tells the cost in
    /// perplexity), or portable (f32, without subgroups) [default: HEADSTART_KERNELS, else auto]
    #[arg(long, value_name = "KERNELS", value_parser = preset)]
    pub(crate) kernels: Option<Preset>,
}

impl EngineArgs {
    fn options(&self) -> EngineOptions {
        let Self { context, quantize, kernels, kv } = *self;
        EngineOptions { context, quantize, kernels, kv, ..EngineOptions::default() }
    }

    /// The flags that cost precision.
    ///
    /// # Errors
    /// As [`Preset::chosen`].
    pub(crate) fn reduced(&self) -> Result<Vec<String>> {
        let kv = (self.kv != KvFormat::default()).then(|| format!("--kv {}", self.kv));
        let int8 = (Preset::chosen(self.kernels)? == Preset::Int8).then(|| "--kernels int8".to_owned());
        Ok(kv.into_iter().chain(int8).collect())
    }

    /// The same without [`EngineArgs::reduced`] flags.
    ///
    /// # Errors
    /// As [`Preset::chosen`].
    pub(crate) fn usual(&self) -> Result<Self> {
        let chosen = Preset::chosen(self.kernels)?;
        let kernels = if chosen == Preset::Int8 { Preset::Auto } else { chosen };
        Ok(Self { kv: KvFormat::default(), kernels: Some(kernels), ..*self })
    }

    /// What a person should know of how these flags load `model`.
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

    /// The classes in which runs with these kernels may compute prompts, at least one. The GPU chooses between the default's.
    ///
    /// # Errors
    /// As [`Preset::chosen`].
    pub(crate) fn classes(&self) -> Result<&'static [Numerics]> {
        const USUAL: [Numerics; 3] = [Numerics::F32, Numerics::F16 { fragment: 16 }, Numerics::F16 { fragment: 8 }];
        Ok(match Preset::chosen(self.kernels)? {
            Preset::Auto => &USUAL,
            Preset::F16 => &USUAL[1..],
            Preset::Int8 => &[Numerics::Int8],
            Preset::F32 | Preset::Portable => &USUAL[..1],
        })
    }

    /// The identity of the KV of `model` when these flags load it and prompts are computed in `class`.
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

/// Bars while a model is loaded, and notes when it is.
#[derive(Default)]
struct Bars {
    bar: Option<(Stage, ProgressBar)>,
}

impl Bars {
    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Bars {
    fn progress(&mut self, Progress { stage, done, total }: Progress) {
        if self.bar.as_ref().is_some_and(|(shown, _)| *shown != stage) {
            self.clear();
        }
        let (what, unit) = match stage {
            Stage::Weights => ("loading", "B"),
            Stage::Shaders => ("compiling", "shaders"),
            Stage::Digest => ("hashing", "B"),
        };
        let (_, bar) = self.bar.get_or_insert_with(|| (stage, term::bar(what, total, unit)));
        bar.set_position(done);
    }

    fn lost(&mut self) {
        term::note("[the GPU was lost; loading the model again]");
    }

    fn loaded(&mut self, engine: &Engine) {
        self.clear();
        engine.notes().iter().for_each(|note| term::note(&format!("[{note}]")));
        let (adapter, kind) = (engine.adapter(), engine.adapter_kind());
        log::info!("adapter {adapter}, {kind:?}; prompts in {}", engine.numerics());
        log::info!("context {} tokens, {} prompt tokens a step", engine.context(), engine.chunk());
        log::debug!("{:?}", engine.caps());
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Puts a model on the GPU, with the tiers of `cache` if there are to be any.
pub(crate) fn start(model: Model, args: &EngineArgs, cache: Option<&CacheOptions>) -> Result<Session> {
    let session = block_on(Session::start(model, args.options(), cache, Box::new(Bars::default())))?;
    let Session { load_ms, compile_ms, .. } = session;
    log::info!("loaded in {load_ms:.0} ms, {compile_ms:.0} of them for shaders after the weights");
    if let Some(cache) = cache {
        report::places(cache, session.unkept.as_ref());
    }
    Ok(session)
}

/// Waits for a digest, with a bar.
pub(crate) fn finish(digest: Digest) -> Result<String> {
    let mut bars = Bars::default();
    block_on(digest.finish(&mut |progress| bars.progress(progress)))
}

/// Logs where the KV of a prompt came from, how long its answer took, and what the tiers did so far.
pub(crate) fn log(session: &Session, asked: &Input, answer: &Answer, cache: Option<&CacheOptions>) {
    if log::log_enabled!(log::Level::Info) {
        let mut account = answer.cache.clone();
        // If the prompt cannot be made again, nothing is recalled.
        let prompt = session.language.tokens(asked).unwrap_or_default();
        recall(cache, session.engine(), &prompt, &mut account);
        log::info!("{}", report::cache(&account));
    }
    log::info!("{}", report::timings(session.load_ms, &answer.timings));
    log::debug!("{}", report::tiers(session.engine()));
}
