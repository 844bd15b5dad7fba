//! `prefix explain`: how much of a prompt the prefix cache can reuse, and how to change the prompt so that it can reuse more. It
//! uses no GPU, and reads weights only to tell two model files apart.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::engine::explain::{Comparison, Difference, Mending, Side};
use crate::engine::language::Language;
use crate::engine::{KvIdentity, rates};
use crate::error::{Error, Result, quoted, visible};
use crate::gpu::Numerics;
use crate::hub;
use crate::kv::{DivergenceKind, Fields, KvFormat, Namespace, Owner};
use crate::model::Config;
use crate::weights::Checkpoint;

use crate::cli::cache::PlaceArgs;
use crate::cli::{input, model, report, term};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart prefix explain yesterday.json today.json
  headstart prefix explain a.json b.json --fix mended
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

    /// Write both conversations to FOLDER/a.json and FOLDER/b.json, put in order so that they share as much as they can: no word is
    /// lost or changed but its place, and B takes A's white space where both say the same. Other files of these names are kept
    #[arg(long, value_name = "FOLDER")]
    fix: Option<PathBuf>,

    #[command(flatten)]
    place: PlaceArgs,

    /// Print one JSON object: tokens, shared_tokens, divergences, fixed_shared_tokens, saved_ms, fixed_saved_ms, cache,
    /// divergence, date_token
    #[arg(long)]
    json: bool,
}

/// The parts of a model that prompts depend on.
struct Model {
    path: PathBuf,
    checkpoint: Checkpoint,
    language: Language,
}

impl Model {
    fn open(path: PathBuf) -> Result<Self> {
        let checkpoint = pollster::block_on(Checkpoint::open(&path))?;
        let language = Language::open(&checkpoint)?;
        language.template()?;
        Ok(Self { path, checkpoint, language })
    }

    /// Milliseconds that a prompt token took when this model last answered here. `None` if it never did.
    fn token_ms(&self, place: &PlaceArgs) -> Option<f64> {
        let path = self.path.canonicalize().ok()?;
        let is_own = |file: &Path| file.canonicalize().is_ok_and(|file| file == path || file.parent() == Some(&path));
        let (_, digest) = place.options().remembered().files().into_iter().find(|(file, _)| is_own(file))?;
        let config = Config::from_checkpoint(&self.checkpoint).ok()?;
        let kept = KvFormat::ALL.map(|(_, kv)| config.clone().with_kv(kv));
        let of = |config| Numerics::ALL.map(|class| KvIdentity::new(config, &digest, None, class).namespace(""));
        rates::computing(&place.options().directory().ok()?, &kept.iter().flat_map(of).collect::<Vec<_>>())?.ms(1.0)
    }

    fn side<'a>(&'a self, weights: &str, file: &Path, request: &'a Value, now: i64) -> Result<Side<'a>> {
        let salt = request.get("cache_salt").and_then(Value::as_str).unwrap_or_default().to_owned();
        let fields = Fields { weights: weights.to_owned(), salt, ..Fields::default() };
        Side::new(&self.language, Namespace::new(fields), request, Some(now)).map_err(|error| match error {
            Error::Template { problem } => Error::Template { problem: format!("of {}: {problem}", file.display()) },
            error => error,
        })
    }
}

/// The path of the model that makes the tokens, and the name of the weights.
type Named = (PathBuf, String);

impl Args {
    /// The models of the two conversations.
    fn models(&self, requests: [&Value; 2]) -> Result<[Named; 2]> {
        let given =
            |name: &str| model::resolve(Some(name), false).map(|path| (path.clone(), path.display().to_string()));
        match &self.model[..] {
            [] => {
                let names = requests.map(|request| request.get("model").and_then(Value::as_str));
                let known = named(names[0])?;
                let prompt = if names[1] == names[0] { known.clone() } else { named(names[1])? };
                Ok([known, prompt])
            }
            [both] => given(both).map(|both| [both.clone(), both]),
            [known, prompt] => Ok([given(known)?, given(prompt)?]),
            _ => Err(Error::Request { field: "model", problem: "give one, or one for each of the two files".into() }),
        }
    }
}

/// The model that a conversation names. Another provider's, or one that is not on this machine, is compared by its name, in the
/// tokens of the default model.
fn named(name: Option<&str>) -> Result<Named> {
    let here = name.and_then(|name| hub::find(name).ok().flatten());
    let path = here.clone().map_or_else(|| model::resolve(None, false), Ok)?;
    let weights = match (name, here) {
        (Some(name), None) => {
            term::note(&format!(
                "note: {name:?} is not on this machine; tokens are those of {} (-m names another)",
                path.display()
            ));
            name.to_owned()
        }
        _ => path.display().to_string(),
    };
    Ok((path, weights))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let files = [&args.known, &args.prompt];
    let requests = [input::request(files[0])?, input::request(files[1])?];
    let [(old_path, old_name), (new_path, new_name)] = args.models([&requests[0], &requests[1]])?;
    let old = Model::open(old_path)?;
    let other = if new_path == old.path { None } else { Some(Model::open(new_path)?) };
    let new = other.as_ref().unwrap_or(&old);
    let same = match &other {
        Some(other) => pollster::block_on(old.checkpoint.has_the_weights_of(&other.checkpoint))?,
        None => new_name == old_name,
    };
    // Both use the same time. What a template writes of the date is reported apart.
    let now = new.language.now().unwrap_or_default();
    let known = old.side(&old_name, files[0], &requests[0], now)?;
    let prompt = new.side(if same { &old_name } else { &new_name }, files[1], &requests[1], now)?;
    let found = Comparison::new(&known, &prompt)?;
    let tokens = [&known, &prompt].map(|side| side.conversation.tokens.len());
    let fixed = args.fix.as_deref().map(|folder| write(folder, files, &found.requests)).transpose()?;
    let token_ms = new.token_ms(&args.place);
    if args.json {
        return term::json(&json!({
            "tokens": { "known": tokens[0], "prompt": tokens[1] },
            "shared_tokens": found.explanation.shared,
            "divergences": found.differences,
            "fixed_shared_tokens": found.fixed,
            "saved_ms": token_ms.map(|ms| ms * found.explanation.shared as f64),
            "fixed_saved_ms": token_ms.map(|ms| ms * found.fixed as f64),
            "cache": found.explanation.report,
            "divergence": found.explanation.divergence,
            "date_token": prompt.date_token(),
        }));
    }
    let names = files.map(|file| visible(&file.display().to_string()));
    term::out(&as_text(&found, &requests, token_ms, prompt.date_token(), &names, fixed.is_some()))?;
    let how = if found.fixed > found.explanation.shared { "Written" } else { "Written as they are" };
    fixed.map_or(Ok(()), |[a, b]| term::out(&format!("{how}: {a} and {b}\n")))
}

/// Writes both requests, and returns the paths.
fn write(folder: &Path, given: [&PathBuf; 2], requests: &[Value; 2]) -> Result<[String; 2]> {
    if folder.is_file() {
        let problem = format!("{} is a file; name a folder", folder.display());
        return Err(Error::Request { field: "fix", problem });
    }
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    let paths = ["a.json", "b.json"].map(|name| folder.join(name));
    let texts = requests.each_ref().map(|request| format!("{request:#}\n"));
    for (path, text) in paths.iter().zip(&texts) {
        let is_given = |given: &PathBuf| {
            given.canonicalize().is_ok_and(|given| path.canonicalize().is_ok_and(|path| path == given))
        };
        let why = if given.into_iter().any(is_given) {
            "is one of the conversations to be compared"
        } else if path.symlink_metadata().is_ok() && std::fs::read(path).ok().as_deref() != Some(text.as_bytes()) {
            "is there already, and is something else"
        } else {
            continue;
        };
        let problem = format!("{} {why}; name another folder", path.display());
        return Err(Error::Request { field: "fix", problem });
    }
    for (path, text) in paths.iter().zip(texts) {
        std::fs::write(path, text).map_err(|error| Error::io(path, error))?;
    }
    Ok(paths.map(|path| visible(&path.display().to_string())))
}

fn share(part: usize, whole: usize) -> String {
    format!("{part} of {whole} tokens ({} %)", 100 * part / whole.max(1))
}

fn as_text(
    found: &Comparison,
    requests: &[Value; 2],
    token_ms: Option<f64>,
    dated: Option<usize>,
    names: &[String; 2],
    written: bool,
) -> String {
    let shared = found.explanation.shared;
    let all = found.explanation.report.prompt_tokens;
    let [a, b] = names;
    let saves = |tokens: usize| {
        token_ms.map_or_else(String::new, |ms| format!(", which saves {} here", report::duration(ms * tokens as f64)))
    };
    let mut text = format!("{b} shares {} with {a}{}.\n", share(shared, all), saves(shared));
    for (index, difference) in found.differences.iter().enumerate() {
        text += &match difference.kind {
            DivergenceKind::None => nothing(requests, names),
            _ => entry(index + 1, difference, names),
        };
    }
    if found.fixed > shared {
        text += &format!(
            "\n{}: {b} then shares {}{}.{}\n",
            mending(found.mending),
            share(found.fixed, found.fixed_tokens[1]),
            saves(found.fixed),
            if written { "" } else { " --fix FOLDER writes both so." },
        );
    } else {
        text += &found
            .differences
            .iter()
            .find_map(|found| stays(found, requests))
            .map_or_else(String::new, |why| format!("\n{why}\n"));
    }
    if let Some(token) = dated {
        text += &format!(
            "\nThe chat template writes today's date at token {token}: from one day to the next only what is before it can be \
             reused. Pin it (--date, or \"date\" in the request).\n"
        );
    }
    text
}

/// What was done to put both in order.
fn mending(done: Mending) -> String {
    let parts = [
        (done.placed, "static first, variables last"),
        (done.ordered, "one order"),
        (done.spaced, "the same white space"),
        (done.dated, "one date"),
    ];
    let mut text = parts.into_iter().filter(|part| part.0).map(|part| part.1).collect::<Vec<_>>().join("; ");
    text[..1].make_ascii_uppercase();
    text
}

/// Why a difference is left as it is, where order might mend it.
fn stays(found: &Difference, requests: &[Value; 2]) -> Option<&'static str> {
    use DivergenceKind::{None as Nothing, Settings, Template, ToolsIgnored};
    let is_last =
        found.message.is_some_and(|message| requests.iter().any(|request| messages(request).len() == message + 1));
    match (&found.owner, found.kind) {
        (_, Nothing | Settings | Template | ToolsIgnored) => None,
        (Owner::Message { role, .. }, DivergenceKind::Whitespace) if ["system", "developer"].contains(&&**role) => {
            Some("White space that may mean something, as in code or lists, stays as it is.")
        }
        (Owner::Message { role, .. }, _) if !is_last && !["system", "developer"].contains(&&**role) => {
            Some("What is said by turns stays as it was said: another order could mean something else.")
        }
        _ => Some("No other order of whole blocks, lines and sentences that says the same leaves less to compute."),
    }
}

fn messages(request: &Value) -> &[Value] {
    request.get("messages").unwrap_or(request).as_array().map_or(&[], Vec::as_slice)
}

/// The sentence if there is nothing to mend.
fn nothing(requests: &[Value; 2], [a, b]: &[String; 2]) -> String {
    let [old, new] = requests.each_ref().map(messages);
    let why = match [old.starts_with(new), new.starts_with(old)] {
        [true, true] => "both are the same".to_owned(),
        [false, true] => format!("{b} goes on from {a}"),
        [true, false] => format!("{a} goes on from {b}"),
        [false, false] => "they differ only in what is asked last".to_owned(),
    };
    format!("Nothing to mend: {why}.\n")
}

/// A difference: its owner, both lines, and the advice.
fn entry(number: usize, difference: &Difference, names: &[String; 2]) -> String {
    let Difference { kind, owner, line_a, line_b, advice, .. } = difference;
    let mut text = format!("\n{number}. {owner}: {kind}\n");
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, line) in names.iter().zip(cut([line_a, line_b])) {
        text += &format!("   {name:<width$}  {line}\n");
    }
    text + &format!("   {advice}\n")
}

/// The part of two lines where they differ, quoted.
fn cut(lines: [&str; 2]) -> [String; 2] {
    const BEFORE: usize = 40;
    const SHOWN: usize = 110;
    let same = lines[0].chars().zip(lines[1].chars()).take_while(|(a, b)| a == b).count();
    // Letters and marks against the same in one: only escapes tell these apart.
    let marked = lines.map(|line| line.contains(|c| matches!(c, '\u{300}'..='\u{36f}')));
    let composed = marked[0] != marked[1] && lines.iter().all(|line| !line.is_ascii());
    let skip = if lines.iter().all(|line| line.chars().count() <= SHOWN) { 0 } else { same.saturating_sub(BEFORE) };
    lines.map(|line| {
        if line.is_empty() {
            return "-".to_owned();
        }
        let shown: String = line.chars().skip(skip).take(SHOWN).collect();
        let (start, end) = (if skip > 0 { "…" } else { "" }, line.chars().count() > skip + SHOWN);
        let shown = if composed { format!("{shown:?}") } else { quoted(&shown) };
        format!("{start}{shown}{}", if end { "…" } else { "" })
    })
}
