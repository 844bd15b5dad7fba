//! `prefix explain`: what the prefix cache can and cannot reuse of a prompt. No GPU is asked for, and weights are read only
//! to tell two model files apart.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::engine::explain::{self, Conversation, Explanation};
use crate::engine::language;
use crate::error::{Error, Result, visible};
use crate::kv::{self, Change, Divergence, Fields, Namespace, Owner};
use crate::text::{ChatTemplate, Prompt, Tokenizer};
use crate::weights::Checkpoint;

use crate::cli::{hub, input, report, term};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart prefix explain yesterday.json today.json
  headstart prefix explain a.json b.json --model model.gguf --json
  headstart prefix explain a.json a.json --model old.gguf --model new.gguf

A conversation is a JSON array of {role, content}, or an object as OpenAI's API takes it: messages, and where wanted
tools, chat_template_kwargs, model, cache_salt, date (2026-11-23, what the chat template takes for today) or now (the
same in seconds since 1970), and continue_final_message (true: the answer goes on with the last message) or
add_generation_prompt (false: the prompt ends behind it), past_thinking (keep or strip) and split_special_tokens (true).
Messages and tools count from 0.")]
pub(crate) struct Args {
    /// A conversation whose prompt the cache holds
    #[arg(value_name = "A.JSON")]
    known: PathBuf,

    /// A conversation that should reuse it
    #[arg(value_name = "B.JSON")]
    prompt: PathBuf,

    /// A GGUF file, a Hugging Face directory, or a name such as `owner/repository`; given twice, one for each conversation
    /// [default: what the conversation names as its model]
    #[arg(short, long, value_name = "MODEL")]
    model: Vec<String>,

    /// Print one JSON object: tokens, shared_tokens, cache, divergence, date_token
    #[arg(long)]
    json: bool,
}

/// A model as far as prompts are made of it.
struct Model {
    path: PathBuf,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

impl Model {
    fn open(name: Option<&str>) -> Result<Self> {
        let path = hub::resolve(name, false)?;
        let checkpoint = pollster::block_on(Checkpoint::open(&path))?;
        let (tokenizer, template) = (language::tokenizer(&checkpoint)?, language::template(&checkpoint)?);
        Ok(Self { path, checkpoint, tokenizer, template })
    }

    fn conversation(&self, prompt: &Prompt, now: i64) -> Result<Conversation> {
        let mut inputs = prompt.inputs();
        inputs.now = inputs.now.or(Some(now));
        Conversation::new(&self.template, &self.tokenizer, &inputs)
    }

    fn namespace(&self, weights: &Path, prompt: &Prompt) -> Namespace {
        let salt = prompt.cache_salt.clone().unwrap_or_default();
        Namespace::new(Fields { weights: weights.display().to_string(), salt, ..Fields::default() })
    }
}

impl Args {
    /// The names of the two models.
    fn models<'a>(&'a self, prompts: [&'a Prompt; 2]) -> Result<[Option<&'a str>; 2]> {
        match &self.model[..] {
            [] => Ok(prompts.map(|prompt| prompt.model.as_deref())),
            [both] => Ok([Some(both); 2]),
            [known, prompt] => Ok([Some(known), Some(prompt)]),
            _ => Err(Error::Request { field: "model", problem: "give one, or one for each of the two files".into() }),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (known, prompt) = (input::prompt(&args.known)?, input::prompt(&args.prompt)?);
    let [old_name, new_name] = args.models([&known, &prompt])?;
    let old = Model::open(old_name)?;
    let other = if new_name == old_name { None } else { Some(Model::open(new_name)?) };
    let new = other.as_ref().unwrap_or(&old);
    let same = other.is_none() || pollster::block_on(old.checkpoint.has_the_weights_of(&new.checkpoint))?;
    // One time for both: what differs from day to day is told by what asks for the day.
    let now = new.template.now();
    let sides = (old.conversation(&known, now)?, new.conversation(&prompt, now)?);
    let namespaces =
        (old.namespace(&old.path, &known), new.namespace(if same { &old.path } else { &new.path }, &prompt));
    let found = explain::explain((&namespaces.0, &sides.0), (&namespaces.1, &sides.1), &new.tokenizer);
    let dated = sides.1.dated().filter(|_| prompt.now.is_none());
    let lengths = (sides.0.tokens.len(), sides.1.tokens.len());
    if args.json {
        return term::json(&json!({
            "tokens": { "known": lengths.0, "prompt": lengths.1 },
            "shared_tokens": found.shared,
            "cache": found.report,
            "divergence": found.divergence,
            "date_token": dated,
        }));
    }
    term::out(&as_text(&found, lengths, dated, &args.known, &args.prompt))
}

fn as_text(found: &Explanation, lengths: (usize, usize), dated: Option<usize>, a: &Path, b: &Path) -> String {
    let mut text = match &found.divergence {
        Some(found) => parting(found, lengths.1, a, b),
        None => agreement(lengths, a, b),
    };
    if let Some(token) = dated {
        text += &format!(
            "The chat template writes today's date at token {token}: from one day to the next only what is before it can be \
             reused. Pin it (--date, or \"date\" in the request).\n"
        );
    }
    text
}

/// What is said where one prompt is the beginning of the other.
fn agreement((known, prompt): (usize, usize), a: &Path, b: &Path) -> String {
    let begins = |longer: &Path, tokens: usize, shorter: &Path| {
        let [longer, shorter] = [longer, shorter].map(|file| visible(&file.display().to_string()));
        format!("Nothing differs: {longer} begins with all {tokens} tokens of {shorter}.\n")
    };
    match known.cmp(&prompt) {
        std::cmp::Ordering::Equal => format!("Nothing differs: both are the same {prompt} tokens.\n"),
        std::cmp::Ordering::Less => begins(b, known, a),
        std::cmp::Ordering::Greater => begins(a, prompt, b),
    }
}

fn parting(found: &Divergence, tokens: usize, a: &Path, b: &Path) -> String {
    let owner = &found.owner;
    let under_names = matches!(owner, Owner::Namespace { .. });
    let mut text = match under_names {
        true => format!("None of {tokens} tokens can be reused: {owner} differs.\n"),
        false => format!("The first {} of {tokens} tokens are the same; then {owner} differs.\n", found.token),
    };
    let [a, b] = [a, b].map(|file| visible(&file.display().to_string()));
    let sides = [("after", &found.shared), (&a, &found.known), (&b, &found.prompt)];
    let sides = &sides[usize::from(under_names)..];
    let width = sides.iter().map(|side| side.0.chars().count()).max().unwrap_or(0);
    for (name, side) in sides {
        text += &format!("  {name:<width$}  {side:?}\n");
    }
    text += match found.change {
        _ if under_names => "",
        Change::Tokenization => "The text is the same; it is only cut into other tokens.\n",
        Change::Thinking => "It was thought in an earlier turn.\n",
        Change::Whitespace => "Only white space differs.\n",
        Change::Order => "The same text stands in another order.\n",
        Change::Number if *owner == (Owner::Template { date: true }) => "",
        Change::Number => "It holds a number, such as a time or an identifier.\n",
        _ => "",
    };
    text + &match found.advice() {
        None => format!("Behind it, no {} tokens or more in a row are the same.\n", kv::PAGE),
        Some(advice) => format!("{}.\n", report::capitalized(&advice)),
    }
}
