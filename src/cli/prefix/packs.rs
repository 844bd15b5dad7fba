//! `prefix warm`, `export` and `import`: compute the beginning of a conversation once, and carry it from place to place.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::chat::CacheOptions;
use crate::chat::session::{Model, Session};
use crate::cli::args::ModelArgs;
use crate::cli::cache::{CacheArgs, DirArgs, TrustArgs, lasts, recall};
use crate::cli::files::{self, Readers};
use crate::cli::interrupt::Work;
use crate::cli::listen::Listener;
use crate::cli::session::{self, EngineArgs};
use crate::cli::{input, report, term};
use crate::engine::answers::What;
use crate::engine::{KvIdentity, packs};
use crate::error::{Error, Result, visible};
use crate::gpu::Numerics;
use crate::kv::KvFormat;
use crate::store::{self, PackHeader, PackLimits, PackSigner, StoreKey, Tiers};
use crate::text::parse_time;
use crate::weights::{ByteSource, FileSource};

/// The conversation whose beginning is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct ConversationArgs {
    /// A conversation, as `prefix explain` reads it; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What the chat template takes for today, such as 2026-11-23 [default: what the conversation says, or today]
    #[arg(long, value_name = "DATE", value_parser = parse_time)]
    date: Option<i64>,
}

/// What to compute, with which model, and where to keep it.
#[derive(Debug, clap::Args)]
struct BeginArgs {
    #[command(flatten)]
    conversation: ConversationArgs,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    cache: CacheArgs,
}

const MEANT: &str = "\
If the conversation ends with a question, its beginning is the whole prompt, up to where the answer starts. If it ends otherwise,
as a system text alone does, its beginning is what all prompts that continue it have in common, whatever they ask.";

#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:
  echo '[{{\"role\": \"system\", \"content\": \"Answer in one sentence.\"}}]' > system.json
  headstart prefix warm system.json
  headstart chat --system 'Answer in one sentence.'
  headstart prefix warm -m model.gguf conversation.json --cache-ttl 30days

{MEANT}"))]
pub(crate) struct Warm {
    #[command(flatten)]
    begin: BeginArgs,

    /// Print one JSON object: id, tokens, blocks, cache, tiers
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:
  headstart prefix export handbook.json -o handbook.kv.safetensors
  headstart prefix export handbook.json -o handbook.kv.safetensors --with-text
  headstart prefix export handbook.json -o handbook.kv.safetensors --sign maker.key
  headstart generate --prefix-pack handbook.kv.safetensors --messages question.json

{MEANT}"))]
pub(crate) struct Export {
    #[command(flatten)]
    begin: BeginArgs,

    /// The file to write. A pack that is there is replaced, and any other file is refused
    #[arg(short, long, value_name = "NAME.kv.safetensors")]
    output: PathBuf,

    /// Put the first 1,024 bytes of the text into the file, so that people can read it
    #[arg(long)]
    with_text: bool,

    /// Sign the pack with the secret in this file, which is made if it does not exist. The key that others can trust is shown
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,

    /// Print one JSON object: id, name, tokens, bytes, key, cache, tiers
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart prefix import handbook.kv.safetensors
  headstart prefix import -m model.gguf handbook.kv.safetensors --json

The file is taken only if every byte of it is as it was written and it was made with the same weights and settings: --kv and --kernels
are those of the runs that will use it. With the default kernels, packs in f32 and f16 are taken, since the GPU chooses between these.
No GPU is asked.")]
pub(crate) struct Import {
    /// A pack, as `export` writes it
    #[arg(value_name = "PACK")]
    pack: PathBuf,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    trust: TrustArgs,

    /// Print one JSON object: id, name, tokens, blocks, kernels, kv
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    cache: CacheArgs,
}

/// The tokens with which the conversation in a file begins, and its salt.
pub(crate) fn beginning(file: &Path, date: Option<i64>, model: &Model, dir: &DirArgs) -> Result<(Vec<u32>, String)> {
    let mut prompt = input::prompt(file)?;
    prompt.now = date.or(prompt.now);
    let tokens = model.language.shared(&prompt)?;
    if tokens.is_empty() {
        let problem = "the chat template begins with what is asked, so nothing can be computed before".into();
        return Err(Error::Request { field: "messages", problem });
    }
    Ok((tokens, dir.salt(prompt.cache_salt.as_deref())))
}

/// The ID of a prefix: the first digits of its last block's key.
pub(crate) fn id(key: &StoreKey) -> String {
    key[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The beginning of a conversation, and a session that can compute it.
struct Computed {
    session: Session,
    problems: report::Problems,
    cache: CacheOptions,
    tokens: Vec<u32>,
    /// The keys of its blocks.
    keys: Vec<StoreKey>,
}

impl Computed {
    fn start(begin: &BeginArgs, mut cache: CacheOptions) -> Result<Self> {
        let BeginArgs { conversation, model, engine, cache: args } = begin;
        let model = model.open()?;
        let (tokens, salt) = beginning(&conversation.file, conversation.date, &model, &args.dir)?;
        cache.salt.clone_from(&salt);
        let session = session::start(model, engine, Some(&cache))?;
        let mut problems = report::Problems::default();
        problems.show(session.engine());
        let keys = session.engine().identity()?.keys(&tokens, &salt);
        Ok(Self { session, problems, cache, tokens, keys })
    }

    fn id(&self) -> String {
        self.keys.last().map(id).unwrap_or_default()
    }
}

/// Fails unless all of `keys` outlive this run: in the directory, or in the shared store if the directory is not written.
fn all_kept(cache: &CacheOptions, tiers: &Tiers, keys: &[StoreKey]) -> Result<()> {
    let place = cache.directory()?.display().to_string();
    let kept = pollster::block_on(packs::kept(tiers, keys));
    let lasting = tiers.stores().zip(kept).filter(|(_, (tier, _))| !["memory", "pack"].contains(tier));
    let lasting = lasting.filter(|(_, (tier, _))| *tier != "disk" || !cache.is_shared_with_all());
    let Some((store, (tier, count))) = lasting.min_by_key(|(_, (tier, _))| *tier != "disk") else {
        let problem = "nothing is kept there, and no other store is named; see the note before this".into();
        return Err(Error::Store { store: place, problem });
    };
    if count == keys.len() {
        return Ok(());
    }
    let why = store.problem().unwrap_or_else(|| "they had to make room; give it more (--cache-budget)".into());
    let problem = format!("only {count} of {} blocks are kept: {why}", keys.len());
    Err(Error::Store { store: if tier == "disk" { place } else { format!("the {tier} store") }, problem })
}

pub(crate) fn warm(args: &Warm) -> Result<()> {
    let cache = args.begin.cache.options("")?;
    lasts(&cache)?;
    let mut begun = Computed::start(&args.begin, cache)?;
    let answers = &mut begun.session.answers;
    let work = Work::begin()?;
    let mut listener = Listener::new(&work, false);
    let mut each = |news: &[What]| listener.hear(news);
    let mut account = pollster::block_on(answers.warm(&begun.tokens, &begun.cache.salt, &mut each))?.cache;
    drop(listener);
    work.end()?;
    let engine = begun.session.engine();
    recall(Some(&begun.cache), engine, &begun.tokens, &mut account);
    engine.tiers().map_or(Ok(()), |tiers| all_kept(&begun.cache, tiers, &begun.keys))?;
    begun.problems.show(engine);
    let (id, tokens, blocks) = (begun.id(), begun.tokens.len(), begun.keys.len());
    if args.json {
        let tiers = report::tiers(engine);
        return term::json(&json!({ "id": id, "tokens": tokens, "blocks": blocks, "cache": account, "tiers": tiers }));
    }
    term::out(&format!("{id}  {tokens} tokens\n"))?;
    term::note(&report::cache(&account));
    Ok(())
}

pub(crate) fn export(args: &Export) -> Result<()> {
    place(&args.output)?;
    let cache = args.begin.cache.options("")?;
    if args.sign.is_some() && cache.is_shared_with_all() {
        let problem = "a signature vouches for what the pack holds; leave out --kv-store-trust, whose store anybody may have written to";
        return Err(Error::Request { field: "sign", problem: problem.into() });
    }
    let signer = args.sign.as_deref().map(store::key_file).transpose();
    let signer = signer.map_err(|problem| Error::Request { field: "sign", problem: problem.to_string() })?;
    let signer = signer.map(|secret| PackSigner::new(&secret));
    let mut begun = Computed::start(&args.begin, cache)?;
    let file = args.output.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = file.strip_suffix(".safetensors").unwrap_or(&file);
    let name = name.strip_suffix(".kv").unwrap_or(name);
    let tokenizer = &begun.session.language.tokenizer;
    let text = args.with_text.then(|| tokenizer.decode(&begun.tokens, false));
    let answers = &mut begun.session.answers;
    let work = Work::begin()?;
    let mut listener = Listener::new(&work, false);
    let mut each = |news: &[What]| listener.hear(news);
    let exported = answers.export_pack(name, &begun.tokens, &begun.cache.salt, text.as_deref(), &mut each);
    let exported = pollster::block_on(exported)?;
    drop(listener);
    work.end()?;
    let mut pack = exported.ok_or(Error::Interrupted)?;
    if let Some(signer) = &signer {
        pack = pack.signed(signer).map_err(|problem| problem.of(args.output.display()))?;
    }
    let key = signer.map(|signer| signer.key().to_string());
    let (path, former) = place(&args.output)?;
    files::replace(&path, pack.bytes(), former.as_ref(), Readers::Usual)?;
    let (id, tokens, bytes) = (begun.id(), begun.tokens.len(), pack.bytes().len() as u64);
    if args.json {
        let tiers = report::tiers(begun.session.engine());
        return term::json(
            &json!({ "id": id, "name": name, "tokens": tokens, "bytes": bytes, "key": key, "tiers": tiers }),
        );
    }
    let signed = key.map_or(String::new(), |key| format!(", signed by {key}"));
    let file = visible(&args.output.display().to_string());
    term::out(&format!("{file}  {tokens} tokens, {}{signed}\n", term::bytes(bytes)))
}

/// The place of a new pack, and what is there: nothing, nothing written yet, or an earlier pack.
///
/// # Errors
/// [`Error::Request`] for another kind of file; [`Error::Io`] for what is no file, and for a folder that cannot be written.
fn place(output: &Path) -> Result<(PathBuf, Option<Metadata>)> {
    let path = files::linked(output);
    let found = files::regular(&path, "this is no file that could hold a pack; name another with -o")?;
    files::temporary(&path, Readers::Usual)?;
    if let Some(size) = found.as_ref().map(Metadata::len).filter(|size| *size > 0) {
        let file = FileSource::open(&path)?;
        let read = async |offset: u64, out: &mut [u8]| file.read(offset, out).await;
        let header = pollster::block_on(PackHeader::load(size, &PackLimits { bytes: size, tokens: usize::MAX }, read));
        header.map_err(|_| {
            let problem = format!("{} is there already, and is no pack: name another file with -o", output.display());
            Error::Request { field: "output", problem }
        })?;
    }
    Ok((path, found))
}

pub(crate) fn import(args: &Import) -> Result<()> {
    let salt = args.cache.dir.salt(None);
    let cache = CacheOptions { trust: args.trust.trust.clone(), ..args.cache.options(&salt)? };
    lasts(&cache)?;
    let pack = pollster::block_on(cache.read_pack(&args.pack))?;
    let model = args.model.open()?;
    let digest = session::finish(cache.digest(&model.path))?;
    // KV is named by the class of the kernels that computed it. The pack's own is meant, if runs with these flags may have it.
    let (own, classes) = (pack.header().namespace.get("numerics"), args.engine.classes()?);
    let own = own.and_then(|name| KvIdentity::class_named(name)).filter(|class| classes.contains(class));
    let (class, kv) = (own.unwrap_or(classes[0]), args.engine.kv);
    let identity = args.engine.identity(&model, &digest, class);
    let (tiers, unkept) = cache.tiers(None)?;
    report::places(&cache, unkept.as_ref());
    let imported = pollster::block_on(identity.import(&pack, &salt, &tiers));
    let imported = imported.map_err(|problem| problem.of(args.pack.display()))?;
    all_kept(&cache, &tiers, &identity.keys(pack.tokens(), &salt))?;
    let (id, name, tokens) = (id(&pack.header().key), &pack.header().name, imported.tokens);
    match args.json {
        true => term::json(&json!({
            "id": id, "name": name, "tokens": tokens, "blocks": imported.blocks,
            "kernels": class.to_string(), "kv": kv.to_string(),
        })),
        false => {
            let computed = if class == Numerics::F32 { String::new() } else { format!(", computed in {class}") };
            let kept = if kv == KvFormat::default() { String::new() } else { format!(", kept in {kv}") };
            term::out(&format!("{id}  {tokens} tokens of {}{computed}{kept}\n", visible(name)))
        }
    }
}
