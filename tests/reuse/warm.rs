//! Cold ≡ warm: hits that end around every page boundary, with chunks of every size, alone and in a batch, from every tier, in
//! the engine that computed the prefix and in one that never saw it.

use std::path::Path;

use headstart::engine::{Engine, Request};
use headstart::kernels::PAGE;
use headstart::model::MixerSpec;

use super::{chunked, cold, digest, prompt, same, warm, watched};
use crate::support::engine::{Answer, greedy, load, run, run_behind, score_bits};
use crate::support::golden::Golden;
use crate::support::model_path;
use crate::support::odd::{NAMES, Tiny};
use crate::support::tiers::{Places, TIERS, Tier};

const LENGTHS: [(usize, &[usize]); 2] =
    [(70, &[0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 69, 70]), (64, &[16, 33, 48, 63, 64])];
const CHUNKS: [usize; 5] = [16, 17, 48, 128, 512];

/// How a prompt's beginning became known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// As a prompt that ended there.
    Ended,
    /// As the beginning of a prompt that continued differently.
    Parted,
}

impl Known {
    /// The prompt that makes the first `hit` tokens of `tokens` known in this way.
    fn prompt(self, tokens: &[u32], hit: usize) -> Vec<u32> {
        let known = &tokens[..hit];
        match self {
            Known::Ended => known.to_vec(),
            // Followed by other tokens than any prompt has there.
            Known::Parted => [known, &[tokens.get(hit).map_or(0, |token| token ^ 1); 5]].concat(),
        }
    }

    /// How many tokens a prompt of `length` tokens reuses: all that it shares. A prompt known to its end is served completely,
    /// from the state that its logits follow from; otherwise the last token is computed. If pages keep a state beside keys and
    /// values, it exists after a block and after a prompt.
    fn cached(self, hit: usize, length: usize, has_state: bool) -> usize {
        match self {
            Known::Ended => hit,
            Known::Parted if has_state => hit.min(length - 1) / PAGE * PAGE,
            Known::Parted => hit.min(length - 1),
        }
    }
}

/// A prompt with its cold answer.
struct Cold {
    tokens: Vec<u32>,
    answer: Answer,
}

impl Cold {
    fn run(engine: &mut Engine, tokens: Vec<u32>) -> Self {
        let answer = run(engine, &[cold(watched(&tokens, 2))]).remove(0);
        assert_eq!((answer.usage.cached_tokens, answer.prompt_logits.len()), (0, tokens.len()));
        Self { tokens, answer }
    }
}

/// The engine that computes the prefix, and the engine that finds it, if it is another one.
struct Pair<'a> {
    writer: &'a mut Engine,
    reader: Option<&'a mut Engine>,
    digest: &'a str,
    places: &'a Places,
}

impl Pair<'_> {
    /// Makes `hit` tokens known in `tier`, asks, and compares the answer with the cold one.
    fn hold(&mut self, what: &str, tier: &'static Tier, known: Known, hit: usize, cold: &Cold, company: bool) {
        let place = self.places.new_in(tier);
        place.restart(self.writer, self.digest);
        let first = known.prompt(&cold.tokens, hit);
        if !first.is_empty() {
            warm(self.writer, &first);
        }
        let reader = match &mut self.reader {
            Some(reader) => {
                place.restart(reader, self.digest);
                reader
            }
            None => {
                if !tier.is_gpu() {
                    self.writer.clear_cache();
                }
                &mut *self.writer
            }
        };
        let length = cold.tokens.len();
        let answer = ask(reader, &cold.tokens, company);
        let has_state = reader.config().layers.iter().any(|layer| layer.mixer != MixerSpec::Attention);
        let cached = known.cached(hit, length, has_state);
        let sources = (tier.sources)(cached, length - cached);
        let what = format!("{what}, {known:?} after {hit} of {length}, company {company}, from {}", tier.name);
        assert_eq!((answer.usage.cached_tokens, answer.cache.sources), (cached, sources), "{what}");
        same(&what, &cold.answer, &answer, cached);
    }
}

/// Alone, or beside a sequence that decodes all the time and two whose prompts are computed in the same steps.
fn ask(engine: &mut Engine, tokens: &[u32], company: bool) -> Answer {
    let request = watched(tokens, 2);
    if !company {
        return run(engine, &[request]).remove(0);
    }
    let vocabulary = engine.config().vocab;
    let stranger = |length, seed, max_tokens| cold(greedy(&prompt(length, vocabulary, seed), max_tokens));
    let behind: [Request; 3] = [stranger(45, 92, 1), request, stranger(21, 93, 3)];
    let mut answers = run_behind(engine, &[stranger(12, 91, 25)], &behind);
    assert_eq!(answers.iter().map(|answer| answer.tokens.len()).collect::<Vec<_>>(), [25, 1, 2, 3]);
    answers.remove(2)
}

/// The cold answers to every prompt of [`LENGTHS`] on this model. Their logits must be those of scoring.
fn colds(model: &Path, vocabulary: usize) -> Vec<Cold> {
    let mut engine = load(model, &chunked(512));
    let colds = LENGTHS.map(|(length, _)| Cold::run(&mut engine, prompt(length, vocabulary, length)));
    for cold in &colds {
        let logits: Vec<u32> = cold.answer.prompt_logits.iter().flat_map(|(_, logits)| logits).copied().collect();
        assert!(logits == score_bits(&mut engine, &cold.tokens), "the logits of a prompt are not its score");
    }
    colds.into()
}

/// `every`: all chunk sizes and batches for each hit; otherwise each hit takes the next combination.
fn hold_all(name: &str, every: bool) {
    let tiny = Tiny::read(name);
    let (colds, digest) = (colds(&tiny.folder, tiny.vocabulary), digest(&tiny.folder));
    let places = Places::default();
    for (number, chunk) in CHUNKS.into_iter().enumerate() {
        let (mut writer, mut other) = (load(&tiny.folder, &chunked(chunk)), load(&tiny.folder, &chunked(chunk)));
        let what = format!("{name}, chunks of {chunk}");
        for tier in TIERS {
            let mut turn = 0;
            for (cold, (_, hits)) in colds.iter().zip(LENGTHS) {
                for (hit, known) in hits.iter().flat_map(|hit| [(*hit, Known::Ended), (*hit, Known::Parted)]) {
                    turn += 1;
                    if !every && turn % CHUNKS.len() != number {
                        continue;
                    }
                    // All four combinations occur, over the chunks or over the hits.
                    let at = if every { number } else { turn / CHUNKS.len() };
                    let (company, restarted) = ((turn + at) % 2 == 1, (turn / 2 + at / 2) % 2 == 1);
                    let reader = (restarted && !tier.is_gpu()).then_some(&mut other);
                    let mut pair = Pair { writer: &mut writer, reader, digest: &digest, places: &places };
                    pair.hold(&what, tier, known, hit, cold, company);
                }
            }
        }
    }
}

#[test]
fn any_hit_from_any_tier_in_any_chunks_changes_no_logit_of_the_rest() {
    hold_all(NAMES[1], true);
}

#[test]
fn nor_on_models_of_other_shapes() {
    hold_all(NAMES[0], false);
    // Windows shorter than a prompt, and layers with two kinds of RoPE.
    hold_all("tiny-gemma3-f16", false);
    // A state beside keys and values.
    hold_all("tiny-lfm2-f16", false);
    // Rows are sorted by expert, whatever the rest of the batch is.
    hold_all("tiny-qwen3-moe-f16", false);
}

#[test]
fn the_real_model_gives_the_same_logits_from_every_tier() {
    let (model, ids) = (model_path(), &Golden::read().prompts["long"].reference.ids);
    let tokens = ids[..70].to_vec();
    let (mut writer, mut other) = (load(&model, &chunked(61)), load(&model, &chunked(32)));
    let cold = Cold::run(&mut writer, tokens);
    let places = Places::default();
    for (tier, restarted, known, hit, company) in [
        ("gpu", false, Known::Parted, 33, false),
        ("memory", false, Known::Ended, 47, true),
        ("disk", true, Known::Ended, 63, false),
        ("disk", true, Known::Parted, 49, true),
        ("redis", true, Known::Ended, 70, false),
    ] {
        let reader = restarted.then_some(&mut other);
        // The weights need no digest here, since no other model stores anything in this folder.
        let mut pair = Pair { writer: &mut writer, reader, digest: "SmolLM2", places: &places };
        pair.hold("SmolLM2", Tier::named(tier), known, hit, &cold, company);
    }
}
