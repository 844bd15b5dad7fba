//! The shapes of `attention`, for prompts and decode, and `attention_merge`, over head sizes and groups.

use headstart::{
    gpu::{Preset, Recording},
    kernels::{
        Class, Heads, KvFormat, PAGE,
        attention::{Attention, Scores, Shape, cascade::Plan, choose, most_splits, partial_bytes, split, tile_rows},
        attention_merge::AttentionMerge,
    },
};

use super::bench::{Bench, Face, Numbers, Step, close, floats, heads};
use crate::reference::{Bounded, attention as twin, attention_merge};

/// Shapes: rows in registers, one lane for each token of a page, 64 lanes and 128; with head sizes and groups of real models.
/// Each case takes a CPU adapter's compiler a few seconds, so shapes, sizes and classes are paired, not fully crossed.
const CASES: [(Face, Class, usize, usize); 10] = [
    (Face::Cpu, Class::Prompt, 64, 3),
    (Face::Cpu, Class::Prompt, 80, 1),
    (Face::Cpu, Class::Decode, 128, 1),
    (Face::Cpu, Class::Decode, 40, 3),
    (Face::CpuPlain, Class::Prompt, 64, 3),
    (Face::CpuPlain, Class::Decode, 40, 4),
    (Face::GpuPlain, Class::Prompt, 64, 3),
    (Face::GpuPlain, Class::Prompt, 128, 4),
    (Face::GpuPlain, Class::Decode, 64, 3),
    (Face::GpuPlain, Class::Decode, 80, 8),
];
/// The same with windows shorter and longer than a page and a split, at their boundaries and between, and with capped scores.
const WINDOWS: [(Face, Class, usize, usize, Scores); 5] = [
    (Face::Cpu, Class::Prompt, 40, 1, Scores { scale: 0.3, cap: None, window: Some(17) }),
    (Face::Cpu, Class::Decode, 24, 2, Scores { scale: 0.5, cap: Some(2.0), window: Some(300) }),
    (Face::CpuPlain, Class::Decode, 24, 1, Scores { scale: 0.2, cap: None, window: Some(1) }),
    (Face::GpuPlain, Class::Prompt, 24, 1, Scores { scale: 0.3, cap: Some(1.5), window: Some(100) }),
    (Face::GpuPlain, Class::Decode, 24, 2, Scores { scale: 0.3, cap: None, window: Some(257) }),
];
/// Prompts with f16 matrices, given as (side, lanes of a subgroup): tiles of 64 rows and of 32, parts beside each other, groups
/// that do not fill a tile.
const HALVES: [((u32, u32), usize, usize, Scores); 6] = [
    ((16, 32), 64, 3, Scores { scale: 0.125, cap: None, window: None }),
    ((16, 64), 128, 4, Scores { scale: 0.09, cap: None, window: None }),
    ((16, 16), 96, 2, Scores { scale: 0.1, cap: None, window: None }),
    ((16, 64), 256, 1, Scores { scale: 0.06, cap: Some(20.0), window: None }),
    ((8, 32), 24, 2, Scores { scale: 0.3, cap: None, window: Some(17) }),
    // Head sizes that the matrices do not divide keep f32.
    ((16, 32), 40, 1, Scores { scale: 0.3, cap: None, window: Some(100) }),
];
const PLAIN: Scores = Scores { scale: 0.1, cap: None, window: None };
/// All of these over keys and values in 8 bits, whose last block may be a part of one.
const Q8: [(Face, Class, usize, usize, Scores); 5] = [
    (Face::Cpu, Class::Prompt, 64, 3, PLAIN),
    (Face::Cpu, Class::Decode, 80, 1, PLAIN),
    (Face::GpuPlain, Class::Prompt, 96, 3, Scores { window: Some(100), ..PLAIN }),
    (Face::GpuPlain, Class::Decode, 256, 2, Scores { cap: Some(2.0), ..PLAIN }),
    (Face::Halves(16, 32), Class::Prompt, 64, 3, PLAIN),
];
/// Number of tokens that the last row of a decoding sequence attends to.
const CONTEXTS: [usize; 11] = [1, 15, 16, 17, 64, 65, 128, 129, 256, 257, 600];
/// Position of the first row and number of rows of prompt chunks: at the start, over page boundaries, deep in a context.
const CHUNKS: [(usize, usize); 5] = [(0, 33), (14, 5), (16, 1), (255, 3), (590, 7)];
/// Tokens that partial results have room for. With less room, a GPU's splits are shorter and have fewer lanes.
const ROOMS: [usize; 2] = [700, 1100];
const STALE: u32 = 0x7b00_7b00;
const NAN: u32 = 0x7e00_7e00;

#[test]
fn attention_agrees_with_its_twin_and_a_row_is_the_same_bits_in_any_tile() {
    let mut bench = Bench::open();
    let mut worst: f64 = 0.0;
    let plain = CASES.map(|(face, class, head_dim, group)| (face, class, head_dim, group, Scores::of(head_dim)));
    for (face, class, head_dim, group, scores) in plain.into_iter().chain(WINDOWS) {
        let kv_heads = 2 - group % 2;
        let heads = heads(kv_heads * group, kv_heads, head_dim);
        worst = worst.max(match class {
            Class::Prompt => prompt(&mut bench, face, heads, scores),
            Class::Decode => decode(&mut bench, face, heads, scores),
        });
    }
    eprintln!("attention: at most {worst:.2} of the allowed error");
}

#[test]
fn attention_in_f16_agrees_with_its_twin_and_a_row_is_the_same_bits_in_any_tile() {
    let mut bench = Bench::with(Preset::F16);
    let mut worst: f64 = 0.0;
    for ((side, lanes), head_dim, group, scores) in HALVES {
        let kv_heads = 2 - group % 2;
        let heads = heads(kv_heads * group, kv_heads, head_dim);
        worst = worst.max(prompt(&mut bench, Face::Halves(side, lanes), heads, scores));
    }
    eprintln!("attention in f16: at most {worst:.2} of the allowed error");
}

#[test]
fn attention_over_8_bits_agrees_with_its_twin_and_a_row_is_the_same_bits_in_any_tile() {
    let mut bench = Bench::with(Preset::F16);
    let mut worst: f64 = 0.0;
    for (face, class, head_dim, group, scores) in Q8 {
        let kv_heads = 2 - group % 2;
        let heads = Heads { kv: KvFormat::Q8, ..heads(kv_heads * group, kv_heads, head_dim) };
        worst = worst.max(match class {
            Class::Prompt => prompt(&mut bench, face, heads, scores),
            Class::Decode => decode(&mut bench, face, heads, scores),
        });
    }
    eprintln!("attention over 8 bits: at most {worst:.2} of the allowed error");
    // Whatever is stored is read as finite numbers.
    for word in [u32::MAX, 0x7fff_7fff, 0x8080_7f80, 0xff80_ff80] {
        let heads = Heads { kv: KvFormat::Q8, ..heads(3, 1, 64) };
        let mut world = World::new(heads, PLAIN, &[600], 1);
        world.pages.fill(word);
        for (face, class) in [(Face::Cpu, Class::Prompt), (Face::Halves(16, 32), Class::Prompt)] {
            let words = run(&mut bench, face, &world, class, vec![[0, 1, 0, 599]]);
            assert!(floats(&words).iter().all(|x| x.is_finite()), "{face:?} {word:x}");
        }
    }
}

/// Sequences in shuffled pages of one pool, and the queries of their rows.
pub struct World {
    pub room: usize,
    pub heads: Heads,
    pub scores: Scores,
    /// `[sequence][token][kv_head · head_dim]`.
    keys: Vec<Vec<Vec<f32>>>,
    values: Vec<Vec<Vec<f32>>>,
    pub tables: Vec<u32>,
    /// Offset of each sequence's block table.
    pub starts: Vec<u32>,
    pub pages: Vec<u32>,
    /// `[batch row][heads · head_dim]`.
    queries: Vec<Vec<f32>>,
}

impl World {
    /// Pages without an owner hold NaN; unused slots of a last page hold values that an earlier owner may have left.
    pub fn new(heads: Heads, scores: Scores, contexts: &[usize], rows: usize) -> Self {
        let numbers = Numbers::new((heads.head_dim * 100 + heads.heads) as u64);
        let needed: usize = contexts.iter().map(|tokens| tokens.div_ceil(PAGE)).sum();
        let free = numbers.shuffled(needed + 3);
        let page_words = twin::page_words(&heads);
        let mut pages = vec![NAN; (needed + 3) * page_words];
        let (mut keys, mut values, mut tables, mut starts) = (vec![], vec![], vec![], vec![]);
        // The words of each head, as the cache would have them.
        let token = || -> Vec<Vec<u32>> {
            let values: Vec<f32> = numbers.floats(heads.kv_heads * heads.head_dim).iter().map(|x| 2.0 * x).collect();
            values.chunks(heads.head_dim).map(|head| twin::stored(&heads, head)).collect()
        };
        let read = |token: &Vec<Vec<u32>>| token.iter().flat_map(|words| twin::read(&heads, words)).collect();
        for &context in contexts {
            let own = &free[tables.len()..tables.len() + context.div_ceil(PAGE)];
            own.iter().for_each(|&page| pages[page as usize * page_words..][..page_words].fill(STALE));
            let (k, v): (Vec<_>, Vec<_>) = (0..context).map(|_| (token(), token())).unzip();
            for t in 0..context {
                let slot = own[t / PAGE] as usize * PAGE + t % PAGE;
                for (half, at) in [(&k[t], twin::k_word as fn(&_, _, _, _) -> _), (&v[t], twin::v_word)] {
                    for (head, words) in half.iter().enumerate() {
                        words.iter().enumerate().for_each(|(i, &word)| pages[at(&heads, slot, head, i)] = word);
                    }
                }
            }
            starts.push(tables.len() as u32);
            tables.extend(own);
            keys.push(k.iter().map(read).collect());
            values.push(v.iter().map(read).collect());
        }
        let queries = (0..rows).map(|_| numbers.floats(heads.heads * heads.head_dim)).collect();
        Self { room: ROOMS[heads.group() % 2], heads, scores, keys, values, tables, starts, pages, queries }
    }

    /// Gives each of `sequences` the first `tokens` tokens of the first one, in whole pages.
    pub fn share(&mut self, sequences: &[usize], tokens: usize) {
        let begin = |sequence: usize| self.starts[sequence] as usize;
        let (from, pages) = (begin(sequences[0]), tokens / PAGE);
        for &sequence in &sequences[1..] {
            self.tables.copy_within(from..from + pages, self.starts[sequence] as usize);
            for cache in [&mut self.keys, &mut self.values] {
                let first = cache[sequences[0]][..tokens].to_vec();
                cache[sequence][..tokens].clone_from_slice(&first);
            }
        }
    }

    /// All heads of batch row `row`, which attends to tokens 0..=position of `sequence`. `halves`: queries and weights are
    /// rounded to f16.
    pub fn expected(&self, row: usize, sequence: usize, position: usize, halves: bool) -> Vec<Bounded> {
        let dim = self.heads.head_dim;
        let own = |cache: &[Vec<f32>], head: usize| -> Vec<Vec<f32>> {
            let first = self.scores.window.map_or(0, |window| (position + 1).saturating_sub(window));
            cache[first..=position].iter().map(|token| token[head * dim..(head + 1) * dim].to_vec()).collect()
        };
        let head = |head: usize| {
            let kv_head = head / self.heads.group();
            let q = &self.queries[row][head * dim..(head + 1) * dim];
            twin::attend(
                &self.scores,
                q,
                &own(&self.keys[sequence], kv_head),
                &own(&self.values[sequence], kv_head),
                halves.then_some(self.heads.kv),
            )
        };
        (0..self.heads.heads).flat_map(head).collect()
    }

    fn step(&self, rows: usize, tiles: Vec<[u32; 4]>, context: usize) -> Step {
        Step { rows: (0..rows as u32).collect(), tiles, tables: self.tables.clone(), context, ..Step::default() }
    }
}

/// Runs attention over `tiles`, and the merge if their contexts are split.
fn run(bench: &mut Bench, face: Face, world: &World, class: Class, tiles: Vec<[u32; 4]>) -> Vec<u32> {
    run_with(bench, face, world, class, tiles, Plan::default())
}

/// The same, where the rows of tiles share splits by `plan`.
pub fn run_with(
    bench: &mut Bench,
    face: Face,
    world: &World,
    class: Class,
    tiles: Vec<[u32; 4]>,
    plan: Plan,
) -> Vec<u32> {
    let heads = world.heads;
    let caps = face.caps(bench.gpu.caps());
    let rows = world.queries.len();
    let context = tiles.iter().map(|[_, count, _, position]| (position + count) as usize).max().unwrap();
    let (step, span) = bench.span(class, &Step { plan, ..world.step(rows, tiles, context) });
    let (q, kv) = (bench.floats(&world.queries.concat()), bench.buffer(&world.pages));
    let out = bench.floats(&vec![f32::NAN; rows * heads.heads * heads.head_dim]);
    let partials = bench.buffer(&vec![NAN; partial_bytes(caps.kind, &heads, rows, world.room) as usize / 4]);
    let attention = Attention::new(heads, world.scores, world.room, &caps);
    let mut recording = Recording::new();
    if !attention.splits(&span) {
        attention.record(&mut recording, &span, q.whole(), kv.whole(), out.whole());
    } else {
        attention.record(&mut recording, &span, q.whole(), kv.whole(), partials.whole());
        let merge = AttentionMerge::new(heads, world.scores, world.room, &caps);
        merge.record(&mut recording, &span, partials.whole(), out.whole());
    }
    let [words] = bench.run(&recording, [out]);
    bench.free([step, q, kv, out, partials]);
    words
}

fn prompt(bench: &mut Bench, face: Face, heads: Heads, scores: Scores) -> f64 {
    let contexts: Vec<usize> = CHUNKS.iter().map(|(position, rows)| position + rows).collect();
    let rows = CHUNKS.iter().map(|(_, rows)| rows).sum();
    let world = World::new(heads, scores, &contexts, rows);
    let caps = face.caps(bench.gpu.caps());
    let most = tile_rows(&caps, &heads, Class::Prompt);
    let halves = choose(&heads, &caps, Class::Prompt, world.room, world.room).shape == Shape::Fragments;
    let tiles = |size: usize| {
        let mut tiles = Vec::new();
        let mut first = 0;
        for (sequence, &(position, rows)) in CHUNKS.iter().enumerate() {
            for start in (0..rows).step_by(size) {
                let count = size.min(rows - start);
                let place = [first + start, count, world.starts[sequence] as usize, position + start];
                tiles.push(place.map(|word| word as u32));
            }
            first += rows;
        }
        tiles
    };
    let label = format!("prompt {face:?} {heads:?} {scores:?}");
    let words = run(bench, face, &world, Class::Prompt, tiles(most));
    let places = CHUNKS.iter().enumerate().flat_map(|(s, &(at, rows))| (0..rows).map(move |i| (s, at + i)));
    let width = heads.heads * heads.head_dim;
    let worst = places.enumerate().map(|(row, (sequence, position))| {
        let wanted = world.expected(row, sequence, position, halves);
        close(&floats(&words)[row * width..(row + 1) * width], &wanted, &format!("{label} row {row}"))
    });
    let worst = worst.fold(0.0, f64::max);
    if most > 1 {
        assert!(words == run(bench, face, &world, Class::Prompt, tiles(1)), "{label}: other bits in tiles of one row");
    }
    worst
}

fn decode(bench: &mut Bench, face: Face, heads: Heads, scores: Scores) -> f64 {
    let world = World::new(heads, scores, &CONTEXTS, CONTEXTS.len());
    let tile = |row: usize| [row as u32, 1, world.starts[row], CONTEXTS[row] as u32 - 1];
    let order = [5, 0, 7, 10, 2, 9, 6, 1, 8, 4, 3];
    let label = format!("decode {face:?} {heads:?} {scores:?}");
    let words = run(bench, face, &world, Class::Decode, order.map(tile).to_vec());
    let width = heads.heads * heads.head_dim;
    let row = |row: usize| row * width..(row + 1) * width;
    let worst = (0..CONTEXTS.len()).map(|i| {
        let wanted = world.expected(i, i, CONTEXTS[i] - 1, false);
        close(&floats(&words)[row(i)], &wanted, &format!("{label} context {}", CONTEXTS[i]))
    });
    let worst = worst.fold(0.0, f64::max);
    // Rows of one split: merged beside longer rows, and not split when alone.
    for i in [4, 7, 9, 10] {
        let alone = run(bench, face, &world, Class::Decode, vec![tile(i)]);
        assert!(alone[row(i)] == words[row(i)], "{label}: row {i} alone has other bits");
    }
    worst
}

/// Contexts on both sides of the length at which splits grow, and a short one beside them.
#[test]
fn a_row_of_many_tokens_has_longer_splits_and_the_same_bits_alone() {
    let mut bench = Bench::open();
    let (heads, contexts) = (heads(2, 1, 8), [16_384, 16_390, 300]);
    for (face, scores) in [
        (Face::Cpu, Scores::of(8)),
        (Face::GpuPlain, Scores::of(8)),
        (Face::Gpu, Scores { window: Some(5000), ..Scores::of(8) }),
    ] {
        let world = World { room: 20_000, ..World::new(heads, scores, &contexts, contexts.len()) };
        let tile = |row: usize| [row as u32, 1, world.starts[row], contexts[row] as u32 - 1];
        let words = run(&mut bench, face, &world, Class::Decode, (0..3).map(tile).collect());
        for (row, context) in contexts.into_iter().enumerate() {
            let own = row * 16..(row + 1) * 16;
            let wanted = world.expected(row, row, context - 1, false);
            close(&floats(&words)[own.clone()], &wanted, &format!("{face:?} context {context}"));
            let alone = run(&mut bench, face, &world, Class::Decode, vec![tile(row)]);
            assert!(alone[own.clone()] == words[own], "{face:?}: {context} tokens alone have other bits");
        }
    }
}

#[test]
fn the_merge_agrees_with_its_twin() {
    let mut bench = Bench::open();
    let mut worst: f64 = 0.0;
    for (face, heads, room) in [
        (Face::Cpu, heads(3, 1, 40), 700),
        (Face::GpuPlain, heads(4, 2, 128), 700),
        (Face::GpuPlain, heads(1, 1, 64), 1100),
        (Face::GpuPlain, heads(2, 1, 8), 8300),
    ] {
        let caps = face.caps(bench.gpu.caps());
        let tokens = split(caps.kind, room);
        let (numbers, dim) = (Numbers::new(heads.head_dim as u64), heads.head_dim);
        // Contexts on both sides of split boundaries, up to the available room.
        let contexts = [1, tokens, tokens + 1, 2 * tokens, 2 * tokens + 1, room];
        let splits = most_splits(caps.kind, room);
        let mut partials = vec![f32::NAN; contexts.len() * heads.heads * splits * (dim + 2)];
        let mut wanted = Vec::new();
        for (row, &context) in contexts.iter().enumerate() {
            for head in 0..heads.heads {
                let mut all = Vec::new();
                // A row that would have over 64 splits has longer ones, of whole pages.
                for split in 0..context.div_ceil(tokens.max(context.div_ceil(1024) * 16)) {
                    let part = (30.0 * numbers.float(), 100.0 + 50.0 * numbers.float(), numbers.floats(dim));
                    let at = ((row * heads.heads + head) * splits + split) * (dim + 2);
                    partials[at] = part.0;
                    partials[at + 1] = part.1;
                    partials[at + 2..at + 2 + dim].copy_from_slice(&part.2);
                    all.push(part);
                }
                wanted.extend(attention_merge::merge(&all));
            }
        }
        let tiles: Vec<[u32; 4]> = (0..).zip(contexts).map(|(row, context)| [row, 1, 0, context as u32 - 1]).collect();
        let rows = (0..contexts.len() as u32).collect();
        let (step, span) = bench.span(Class::Decode, &Step { rows, tiles, context: room, ..Step::default() });
        let (partials, out) = (bench.floats(&partials), bench.floats(&vec![f32::NAN; wanted.len()]));
        let mut recording = Recording::new();
        AttentionMerge::new(heads, Scores::of(dim), room, &caps).record(
            &mut recording,
            &span,
            partials.whole(),
            out.whole(),
        );
        let [words] = bench.run(&recording, [out]);
        worst = worst.max(close(floats(&words), &wanted, &format!("merge {face:?} {heads:?}")));
        bench.free([step, partials, out]);
    }
    eprintln!("attention_merge: at most {worst:.2} of the allowed error");
}
