//! `prefix ls`, `rm`, `pin` and `unpin` work on the directory. They compute nothing and use no GPU.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cli::args::ModelArgs;
use crate::cli::cache::{DirArgs, PlaceArgs, chains};
use crate::cli::session::{self, EngineArgs};
use crate::cli::term;
use crate::engine::{KvIdentity, language};
use crate::error::{Error, Result, visible};
use crate::gpu::Numerics;
use crate::kv::KvFormat;
use crate::store::{Chain, Chains, FilesystemStore, Store, StoreKey};
use crate::text::{Tokenizer, parse_time};
use crate::weights::Checkpoint;

use super::packs::{beginning, id};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart prefix ls
  headstart prefix ls --cache-dir /srv/kv --json

A line is the longest stored prefix that no other goes on from; TEXT is its end. Beginnings that several have in common are stored once.

The list is of the directory of this machine. What a shared store (--kv-store) holds cannot be listed: its names reveal nothing.")]
pub(crate) struct Ls {
    #[command(flatten)]
    place: PlaceArgs,

    /// Print one JSON object: dir, bytes, prefixes, pins, damaged, left_out
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart prefix rm 9b1c04aa11ff
  headstart prefix rm --all")]
#[command(group(clap::ArgGroup::new("what").required(true).args(["id", "all"])))]
pub(crate) struct Rm {
    /// As `prefix ls` shows it, or its first digits; what other prefixes begin with stays
    #[arg(value_name = "ID")]
    id: Vec<String>,

    /// Everything of all models and salts, pins too
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart prefix pin system.json --name house-rules
  headstart prefix pin 9b1c04aa11ff --name handbook

A pinned prefix neither expires nor makes room for others. All pins together may hold half of --cache-budget. Blocks that are not
stored yet are pinned as soon as they are.")]
pub(crate) struct Pin {
    /// A conversation, as `prefix warm` reads it, or the ID of a prefix, as `prefix ls` shows it
    #[arg(value_name = "FILE|ID")]
    what: String,

    /// What to call the pin: 1 to 64 of a-z, 0-9, `.`, `_` and `-`
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What the chat template takes for today, such as 2026-11-23 [default: what the conversation says, or today]
    #[arg(long, value_name = "DATE", value_parser = parse_time)]
    date: Option<i64>,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    dir: DirArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  headstart prefix unpin house-rules")]
pub(crate) struct Unpin {
    /// The name that `prefix pin` gave it
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    dir: DirArgs,
}

fn hex(key: &StoreKey) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A part of the directory and a chain in it.
struct Found {
    part: FilesystemStore,
    listed: Chains,
    chain: Chain,
}

/// The one chain whose ID begins with `wanted`.
fn find(parts: Vec<FilesystemStore>, wanted: &str) -> Result<Found> {
    let refuse = |problem: String| Error::Request { field: "id", problem };
    let wanted = wanted.to_ascii_lowercase();
    let mut count = 0;
    let mut found = None;
    for part in parts {
        let listed = chains(&part)?;
        let fits = |chain: &&Chain| hex(&chain.key).starts_with(&wanted);
        count += listed.found.iter().filter(fits).count();
        if let Some(chain) = listed.found.iter().find(fits).cloned() {
            found = Some(Found { part, listed, chain });
        }
    }
    match (found, count) {
        _ if wanted.is_empty() => Err(refuse("is empty; `headstart prefix ls` shows what there is".into())),
        (Some(found), 1) => Ok(found),
        (None, _) => Err(refuse(format!("no prefix is called {wanted}; `headstart prefix ls` shows what there is"))),
        (Some(_), _) => Err(refuse(format!("{count} prefixes are called {wanted}…; give more digits"))),
    }
}

/// Models by the digest of their weights, as far as the directory remembers their files.
struct Models {
    files: Vec<(PathBuf, String)>,
    opened: HashMap<String, Option<Known>>,
}

struct Known {
    name: String,
    tokenizer: Tokenizer,
}

impl Models {
    fn of(&mut self, digest: &str) -> Option<&Known> {
        let Self { files, opened } = self;
        let open = || {
            let (path, _) = files.iter().find(|(_, known)| known == digest)?;
            // A GGUF file, or the weights within a directory.
            let places = std::iter::once(path.as_path()).chain(path.parent());
            places.filter_map(|place| Known::open(place).ok()).next()
        };
        opened.entry(digest.to_owned()).or_insert_with(open).as_ref()
    }
}

impl Known {
    fn open(path: &Path) -> Result<Self> {
        let checkpoint = pollster::block_on(Checkpoint::open(path))?;
        let tokenizer = language::tokenizer(&checkpoint)?;
        // `models--OWNER--NAME` is how the hub's cache calls a repository.
        let parts = path.iter().filter_map(|part| part.to_str());
        let repository = parts.filter_map(|part| part.strip_prefix("models--")).next_back();
        let file = || path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = repository.map(|name| name.replace("--", "/")).or_else(file).unwrap_or_default();
        Ok(Self { name, tokenizer })
    }
}

const COLUMNS: [&str; 7] = ["ID", "TOKENS", "SIZE", "USED", "MODEL", "NOTES", "TEXT"];

/// A chain, with what is shown of it.
struct Shown {
    chain: Chain,
    /// The digest of its model's weights.
    digest: String,
    quantized: Option<String>,
    /// The format of its keys and values.
    kv: String,
    /// The class of kernels that computed it; `None` if this version has no such kernels.
    class: Option<Numerics>,
    model: Option<String>,
    text: Option<String>,
}

impl Shown {
    fn new(chain: &Chain, listed: &Chains, models: &mut Models) -> Self {
        let weights = chain.namespace.get("weights").map(String::as_str).unwrap_or_default();
        let (digest, quantized) = match weights.split_once(" quantized=") {
            Some((digest, format)) => (digest, Some(format.to_lowercase())),
            None => (weights, None),
        };
        let known = models.of(digest);
        let text = known.filter(|_| chain.complete).map(|known| end_of(&known.tokenizer, chain, listed));
        let model = known.map(|known| known.name.clone());
        let kv = chain.namespace.get("kv_dtype").cloned().unwrap_or_default();
        let class = chain.namespace.get("numerics").and_then(|name| KvIdentity::class_named(name));
        Self { digest: digest.to_owned(), quantized, kv, class, model, text, chain: chain.clone() }
    }

    fn is_salted(&self) -> bool {
        self.chain.namespace.get("salt").is_some_and(|salt| !salt.is_empty())
    }

    fn id(&self) -> String {
        id(&self.chain.key)
    }

    fn as_json(&self) -> Value {
        let time = |ms: u64| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string();
        let chain = &self.chain;
        json!({
            "id": self.id(),
            "key": hex(&chain.key),
            "tokens": chain.tokens,
            "blocks": chain.blocks,
            "bytes": chain.bytes,
            "own_bytes": chain.own_bytes,
            "used": time(chain.used_ms),
            "expires": chain.expires_ms.map(time),
            "pins": chain.pins.iter().collect::<Vec<_>>(),
            "pinned_blocks": chain.pinned,
            "complete": chain.complete,
            "last_hidden": chain.last_hidden,
            "model": self.model,
            "weights": self.digest,
            "quantized": self.quantized,
            "kv": self.kv,
            "kernels": self.class.map(|class| class.to_string()),
            "salted": self.is_salted(),
            "text": self.text,
        })
    }

    fn row(&self, now_ms: u64) -> [String; COLUMNS.len()] {
        let chain = &self.chain;
        let mut remarks: Vec<String> = chain.pins.iter().map(|pin| format!("pinned as {pin}")).collect();
        remarks.extend(chain.expires_ms.map(|at| format!("expires in {}", about(at.saturating_sub(now_ms)))));
        remarks.extend(match self.class {
            Some(Numerics::F32) => None,
            Some(class) => Some(format!("computed in {class}")),
            None => Some("of kernels that this version lacks".to_owned()),
        });
        remarks.extend((self.kv != KvFormat::default().name()).then(|| format!("kept in {}", self.kv)));
        remarks.extend(self.is_salted().then(|| "salted".to_owned()));
        remarks.extend((!chain.complete).then(|| "its beginning is gone".to_owned()));
        let model = self.model.clone().unwrap_or_else(|| self.digest.chars().take(12).collect());
        let quantized = self.quantized.as_ref().map_or(String::new(), |format| format!(" as {format}"));
        [
            self.id(),
            chain.tokens.to_string(),
            term::bytes(chain.bytes),
            format!("{} ago", about(now_ms.saturating_sub(chain.used_ms))),
            model + &quantized,
            remarks.join(", "),
            self.text.as_ref().map_or(String::new(), |text| format!("{text:?}")),
        ]
        .map(|cell| visible(&cell))
    }
}

/// The last characters of a chain's text, since many chains begin alike. A character that is cut in two is left out.
fn end_of(tokenizer: &Tokenizer, chain: &Chain, listed: &Chains) -> String {
    const TOKENS: usize = 48;
    const CHARACTERS: usize = 60;
    let tokens = listed.ending(chain, TOKENS);
    let text = tokenizer.decode(&tokens, true);
    let text = text.trim_matches('\u{FFFD}').trim_end();
    let skip = text.chars().count().saturating_sub(CHARACTERS);
    let cut = chain.tokens > tokens.len() || skip > 0;
    cut.then_some('…').into_iter().chain(text.chars().skip(skip)).collect()
}

/// A duration in its largest unit.
fn about(ms: u64) -> String {
    let long = humantime::format_duration(Duration::from_secs(ms / 1000)).to_string();
    long.split(' ').next().unwrap_or_default().to_owned()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

pub(crate) fn ls(args: &Ls) -> Result<()> {
    let mut models = Models { files: args.place.options().remembered().files(), opened: HashMap::new() };
    let (mut shown, mut pins) = (Vec::new(), Vec::new());
    let (mut damaged, mut left_out, mut bytes) = (0, 0, 0);
    for part in args.place.parts()? {
        let listed = chains(&part)?;
        left_out += listed.left_out;
        shown.extend(listed.found.iter().map(|chain| Shown::new(chain, &listed, &mut models)));
        let pinned = part.pins().map_err(|problem| problem.at(part.root()))?;
        damaged += listed.damaged + pinned.damaged;
        pins.extend(pinned.found);
        let keys = part.keys().map_err(|problem| problem.at(part.root()))?;
        bytes += keys.iter().filter_map(|key| part.path(key).metadata().ok()).map(|file| file.len()).sum::<u64>();
    }
    if args.json {
        let pins = pins.iter().map(
            |pin| json!({ "name": pin.name, "blocks": pin.keys.len(), "missing": pin.missing, "bytes": pin.bytes }),
        );
        return term::json(&json!({
            "dir": args.place.options().directory()?.display().to_string(),
            "bytes": bytes,
            "prefixes": shown.iter().map(Shown::as_json).collect::<Value>(),
            "pins": pins.collect::<Value>(),
            "damaged": damaged,
            "left_out": left_out,
        }));
    }
    if shown.is_empty() {
        term::note(&format!("nothing is kept in {} yet", args.place.options().directory()?.display()));
    }
    let now = now_ms();
    let rows: Vec<_> = shown.iter().map(|shown| shown.row(now)).collect();
    table(&rows)?;
    if damaged > 0 {
        term::note(&format!("{damaged} damaged files are passed over; what needs them is computed anew"));
    }
    if left_out > 0 {
        term::note(&format!("{left_out} blocks that were used longest ago are left out: there are too many to list"));
    }
    if let Some(problem) = args.place.options().seal().err().filter(|_| !shown.is_empty()) {
        term::note(&format!("whose models these are is not known, so no text is shown: {problem}"));
    }
    Ok(())
}

/// Shows the rows under their headings, without empty columns.
fn table(rows: &[[String; COLUMNS.len()]]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| match rows.iter().map(|row| row[column].chars().count()).max() {
            None | Some(0) => 0,
            Some(width) => width.max(COLUMNS[column].len()),
        })
        .collect();
    let line = |row: &[String; COLUMNS.len()]| {
        let cells = row.iter().zip(&widths).filter(|(_, width)| **width > 0);
        let cells: Vec<String> = cells.map(|(cell, &width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    term::dim(&line(&COLUMNS.map(str::to_owned)))?;
    term::out(&rows.iter().map(line).collect::<String>())
}

pub(crate) fn rm(args: &Rm) -> Result<()> {
    if args.all {
        for part in args.place.parts()? {
            pollster::block_on(part.clear()).map_err(|problem| problem.at(part.root()))?;
        }
        let dir = visible(&args.place.options().directory()?.display().to_string());
        return term::out(&format!("removed all that was kept in {dir}\n"));
    }
    for wanted in &args.id {
        let Found { part, chain: Chain { key: leaf, .. }, .. } = find(args.place.parts()?, wanted)?;
        let part = part.sealed(args.place.options().seal()?);
        let removed = part.remove_chain(&leaf).map_err(|problem| problem.at(part.root()))?;
        term::out(&format!("{}  removed, {} free\n", id(&leaf), term::bytes(removed.bytes)))?;
    }
    Ok(())
}

pub(crate) fn pin(args: &Pin) -> Result<()> {
    let file = Path::new(&args.what);
    let (part, keys) = if args.what == "-" || file.exists() { computed(args, file)? } else { listed(args)? };
    let former = part.pins().map_err(|problem| problem.at(part.root()))?.found;
    let former = former.into_iter().find(|pin| pin.name == args.name && pin.keys != keys);
    let pinned = part.pin(&args.name, &keys).map_err(|problem| problem.at(part.root()))?;
    let kept = pinned.keys.len() - pinned.missing;
    let moved = former.and_then(|pin| pin.keys.last().map(id));
    let moved = moved.map_or_else(String::new, |former| format!(", moved from {former}, which is no longer pinned so"));
    term::out(&format!("{}  pinned, {kept} of {} blocks are stored{moved}\n", args.name, pinned.keys.len()))
}

/// The blocks of the conversation in a file, and the part of the directory where they are or will be.
fn computed(args: &Pin, file: &Path) -> Result<(FilesystemStore, Vec<StoreKey>)> {
    let model = args.model.open()?;
    let (tokens, salt) = beginning(file, args.date, &model, &args.dir)?;
    let place = args.dir.options(&salt);
    let (digest, disk) = (session::finish(place.digest(&model.path))?, place.disk()?);
    // The class of kernels that computed most of the stored blocks.
    let mut classes = Vec::new();
    for class in Numerics::ALL {
        let keys = args.engine.identity(&model, &digest, class).keys(&tokens, &salt);
        let present = pollster::block_on(disk.contains(&keys)).map_err(|problem| problem.at(disk.root()))?;
        classes.push((present.into_iter().filter(|is| *is).count(), keys));
    }
    let most = classes.into_iter().rev().max_by_key(|(present, _)| *present);
    Ok((disk, most.map(|(_, keys)| keys).unwrap_or_default()))
}

/// The blocks of the prefix with an ID, and the part of the directory where they are.
fn listed(args: &Pin) -> Result<(FilesystemStore, Vec<StoreKey>)> {
    if !args.what.bytes().all(|c| c.is_ascii_hexdigit()) {
        let problem = format!(
            "{} is neither a file that is there nor the ID of a prefix; `headstart prefix ls` shows the IDs",
            args.what
        );
        return Err(Error::Request { field: "pin", problem });
    }
    for (flag, given) in [("--date", args.date.is_some()), ("--model", args.model.model.is_some())] {
        if given {
            term::note(&format!("note: {flag} has no effect: it is for a conversation in a file, and an ID is given"));
        }
    }
    let Found { part, listed, chain } = find(args.dir.parts()?, &args.what)?;
    Ok((part, listed.keys(&chain)))
}

pub(crate) fn unpin(args: &Unpin) -> Result<()> {
    let mut parts = vec![args.dir.options(&args.dir.salt(None)).disk()?];
    parts.extend(args.dir.parts()?);
    let mut unpinned = false;
    for part in parts {
        unpinned |= part.unpin(&args.name).map_err(|problem| problem.at(part.root()))?;
    }
    match unpinned {
        true => term::out(&format!("{}  unpinned\n", args.name)),
        false => {
            let problem = format!("there is no pin {:?}; `headstart prefix ls` shows them", args.name);
            Err(Error::Request { field: "name", problem })
        }
    }
}
