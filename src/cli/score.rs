//! `score`: the probability that a model gives each token of a text.
//!
//! Log-probabilities are a log-softmax in f64 of the f32 logits. Cost: one prefill of the text with the language model
//! head on every position; logits are reduced as they come, never kept. With KV or prompts in 8 bits the text is scored as
//! usual too, to tell their cost in perplexity.

use serde_json::{Value, json};
use web_time::Instant;

use crate::chat::session::{Model, Session};
use crate::engine::answers::What;
use crate::engine::{FinishReason, Request};
use crate::error::{Error, Result};
use crate::sample::top_candidates;
use crate::text::{StopStrings, Tokenizer};

use super::args::{ModelArgs, PromptArgs, positive};
use super::interrupt::Work;
use super::session::{self, EngineArgs};
use super::term;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart score 'The capital of France is Paris.'
  headstart score -m model.gguf --prompt-file chapter.txt --json
  headstart score --prompt-file chapter.txt --kv q8
  headstart score --prompt-file chapter.txt --kernels int8
  headstart score 'To be or not to be' --top-logprobs 5")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    prompt: PromptArgs,

    /// Also give the K most likely next tokens after every position
    #[arg(long, value_name = "K", value_parser = positive)]
    top_logprobs: Option<usize>,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print one JSON object: token_ids, logprobs, perplexity, top_logprobs, usual_perplexity (with --kv q8 or --kernels int8)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default)]
struct Scores {
    /// One for each token after the first.
    logprobs: Vec<f64>,
    /// The most likely next tokens, for each position.
    top: Vec<Vec<(u32, f64)>>,
    /// Whether any position was computed.
    begun: bool,
}

impl Scores {
    /// Adds the next position by its logits; `rest` are the tokens after it.
    fn take(&mut self, rest: &[u32], logits: &[f32], top: Option<usize>) {
        self.begun = true;
        let log_total = log_sum_exp(logits);
        if let Some(&logit) = rest.first().and_then(|&next| logits.get(next as usize)) {
            self.logprobs.push(f64::from(logit) - log_total);
        }
        if let Some(k) = top {
            let best = top_candidates(logits, k);
            self.top.push(best.into_iter().map(|(id, logit)| (id, f64::from(logit) - log_total)).collect());
        }
    }

    /// Tokens that are fully scored.
    fn tokens(&self) -> usize {
        if self.begun { self.logprobs.len() + 1 } else { 0 }
    }

    /// As [`Scores::perplexity`], if all `tokens` tokens were scored.
    fn perplexity_of(&self, tokens: usize) -> Option<f64> {
        self.perplexity().filter(|_| self.tokens() == tokens)
    }

    /// `None` if there is no token to predict.
    fn perplexity(&self) -> Option<f64> {
        let mean = self.logprobs.iter().sum::<f64>() / self.logprobs.len() as f64;
        (!self.logprobs.is_empty()).then(|| (-mean).exp())
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let text = args.prompt.text(true)?.unwrap_or_else(|| super::lacks_prompt("score"));
    let model = args.model.open()?;
    let tokens = args.prompt.text.tokens(&model.language.tokenizer, &text)?;
    term::notes(&args.engine.warnings(&model)?);
    let work = Work::begin()?;
    let (scores, mut session) = score(args, &args.engine, model, &tokens, &work)?;
    let mut usual = None;
    let reduced = args.engine.reduced()?;
    if !reduced.is_empty() && scores.tokens() == tokens.len() {
        // The GPU may have no room for both.
        drop(session);
        let (scores, again) = score(args, &args.engine.usual()?, args.model.open()?, &tokens, &work)?;
        (usual, session) = (scores.perplexity_of(tokens.len()), again);
    }
    let scored = scores.tokens();
    let tokenizer = &session.language.tokenizer;
    match args.json {
        true => term::json(&as_json(&tokens[..scored], &scores, usual, args.top_logprobs.is_some(), tokenizer)),
        false => show(&tokens[..scored], &scores, usual.map(|usual| (usual, reduced)), tokenizer),
    }?;
    work.end()
}

/// Scores the tokens on an engine of its own, until Ctrl-C.
fn score(args: &Args, engine: &EngineArgs, model: Model, tokens: &[u32], work: &Work) -> Result<(Scores, Session)> {
    let mut session = session::start(model, engine, None)?;
    let request = Request { tokens: tokens.to_vec(), prompt_logits: true, no_cache: true, ..Request::default() };
    let id = session.answers.ask(request, StopStrings::default(), Instant::now())?;
    let bar = term::bar("scoring", tokens.len() as u64, "tokens");
    let mut scores = Scores::default();
    let mut each = |news: &[What]| {
        for what in news {
            if let What::PromptLogits { position, logits } = what {
                scores.take(&tokens[*position + 1..], logits, args.top_logprobs);
                bar.set_position(*position as u64 + 1);
            }
        }
        Ok(work.flow())
    };
    let answer = pollster::block_on(session.answers.run(id, &mut each))?;
    bar.finish_and_clear();
    if answer.finish_reason == Some(FinishReason::Context) {
        let problem = format!("has {} tokens, and the GPU has no memory for them; shorten it", tokens.len());
        return Err(Error::Request { field: "prompt", problem });
    }
    Ok((scores, session))
}

/// `ln Σ exp(l)` in f64, about the largest logit.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln()
}

/// `usual`: the perplexity without the reduced precision that flags asked for.
fn as_json(tokens: &[u32], scores: &Scores, usual: Option<f64>, with_top: bool, tokenizer: &Tokenizer) -> Value {
    let mut object = json!({
        "token_ids": tokens,
        "logprobs": scores.logprobs,
        "perplexity": scores.perplexity(),
    });
    if let Some(usual) = usual {
        object["usual_perplexity"] = json!(usual);
    }
    if with_top {
        let entry = |&(id, logprob): &(u32, f64)| json!({ "id": id, "token": tokenizer.token(id), "logprob": logprob });
        object["top_logprobs"] = scores.top.iter().map(|best| best.iter().map(entry).collect::<Value>()).collect();
    }
    object
}

/// `usual`: the perplexity without the reduced precision that flags asked for, and the flags.
fn show(tokens: &[u32], scores: &Scores, usual: Option<(f64, Vec<String>)>, tokenizer: &Tokenizer) -> Result<()> {
    let shown = |id: u32| format!("{:?}", tokenizer.decode(&[id], false));
    term::dim(&format!("{:>8}  {:>9}  token\n", "id", "logprob"))?;
    for (position, &id) in tokens.iter().enumerate() {
        let logprob = match position.checked_sub(1) {
            Some(before) => format!("{:.4}", scores.logprobs[before]),
            None => "-".into(),
        };
        term::out(&format!("{id:>8}  {logprob:>9}  {}\n", shown(id)))?;
        if let Some(best) = scores.top.get(position) {
            let best: Vec<String> = best.iter().map(|&(id, logprob)| format!("{} {logprob:.2}", shown(id))).collect();
            term::dim(&format!("{:>21}next: {}\n", "", best.join("  ")))?;
        }
    }
    match scores.perplexity() {
        Some(perplexity) => {
            let (count, s) = (scores.logprobs.len(), if scores.logprobs.len() == 1 { "" } else { "s" });
            let cost = usual.map_or(String::new(), |(usual, reduced)| {
                let cost = 100.0 * (perplexity / usual - 1.0);
                format!("; without {} {usual:.4}, a cost of {cost:+.2} %", reduced.join(" and "))
            });
            term::out(&format!("perplexity {perplexity:.4} over {count} token{s}{cost}\n"))
        }
        None => term::out("perplexity needs at least two tokens\n"),
    }
}
