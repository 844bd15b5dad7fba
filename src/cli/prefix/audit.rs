//! `prefix audit`: computes some blocks of a pack again, and compares them.

use std::path::PathBuf;

use crate::chat::CacheOptions;
use crate::cli::args::{ModelArgs, positive};
use crate::cli::cache::{PlaceArgs, TrustArgs};
use crate::cli::interrupt::Work;
use crate::cli::listen::Listener;
use crate::cli::session::{self, EngineArgs};
use crate::cli::term;
use crate::engine::Audited;
use crate::engine::answers::What;
use crate::error::{Error, Result, visible};
use crate::store::{MemoryStore, Tiers, TiersConfig, system_clock};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  headstart prefix audit handbook.kv.safetensors
  headstart prefix audit -m model.gguf handbook.kv.safetensors --blocks 40 --json

Some of the pack's blocks, chosen at random, are computed anew, and must be the same to the last bit. Of a pack in which one block
of a hundred was changed, forty blocks find it in 40 of 100 audits.")]
pub(crate) struct Args {
    /// A pack, as `export` writes it
    #[arg(value_name = "PACK")]
    pack: PathBuf,

    /// How many of its blocks to compute, of 16 tokens each
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    blocks: usize,

    /// The salt that the pack was made under
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    cache_salt: String,

    /// Accept values that are only close, because another kind of graphics card made the pack. This finds gross changes alone
    #[arg(long)]
    other_adapter: bool,

    #[command(flatten)]
    trust: TrustArgs,

    #[command(flatten)]
    place: PlaceArgs,

    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// Print one JSON object: pack, blocks, checked, exact, largest, device
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let place = CacheOptions { trust: args.trust.trust.clone(), ..args.place.options() };
    let pack = pollster::block_on(place.read_pack(&args.pack))?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| Error::io("random bytes", std::io::Error::other(error)))?;
    let nonce = format!("audit {:032x}", u128::from_le_bytes(nonce));
    let model = args.model.open()?;
    let digest = place.digest(&model.path);
    let mut session = session::start(model, &args.engine, None)?;
    let nowhere = Tiers::new(MemoryStore::new(0, system_clock()), Vec::new(), TiersConfig::default());
    let answers = &mut session.answers;
    answers.engine_mut().attach(nowhere, &session::finish(digest)?, std::time::Duration::ZERO);
    let work = Work::begin()?;
    let mut listener = Listener::new(&work, false);
    let mut each = |news: &[What]| listener.hear(news);
    let (count, other) = (args.blocks, args.other_adapter);
    let audit = answers.audit(pack, &args.cache_salt, count, &nonce, other, &mut each);
    let audited = pollster::block_on(audit).map_err(|error| match error {
        Error::Pack { problem, .. } => Error::Pack { pack: args.pack.display().to_string(), problem },
        error => error,
    })?;
    drop(listener);
    work.end()?;
    let audited = audited.ok_or(Error::Interrupted)?;
    let Audited { blocks, checked, exact, largest, device } = &audited;
    if args.json {
        let mut told = serde_json::to_value(&audited).map_err(|error| Error::io("standard output", error.into()))?;
        told["pack"] = args.pack.display().to_string().into();
        return term::json(&told);
    }
    let count = format!("{} of {blocks} blocks", checked.len());
    let found = match exact {
        true => format!("{count} are what this machine computes, bit for bit"),
        false => {
            let maker = device.as_deref().unwrap_or("nobody").escape_debug();
            format!(
                "{count} are within {largest:.1e} of what this machine computes, which finds gross changes alone; the pack says \
                 that {maker} made it"
            )
        }
    };
    term::out(&format!("{}  {found}\n", visible(&args.pack.display().to_string())))
}
