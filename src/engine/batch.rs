//! A step's rows as the buffer that shaders read (`shaders/shared/step.wgsl`): three headers (prompt, decode and logits
//! span), followed by the sections that they point to. The host writes it once a step.

use crate::{
    gpu::{Buffer, Slice},
    kernels::{
        Class, PAGE, Span,
        attention::cascade::{self, Plan, Row, Sharing},
    },
    model::Angle,
};

/// Words of a header: storage bindings start at multiples of 256 bytes.
const HEADER: usize = 64;
/// Words of a row's sampling parameters.
const SAMPLING: usize = 5;
/// Words of a run of rows of one sequence in one page.
const RUN: usize = 5;

/// Rows of one sequence: consecutive tokens at consecutive positions. Without tokens, it is one row whose known hidden
/// state is uploaded and whose logits are needed.
#[derive(Debug, Clone)]
pub(crate) struct Rows<'a> {
    pub(crate) class: Class,
    pub(crate) tokens: &'a [u32],
    /// Position of the first token.
    pub(crate) position: usize,
    /// The slot of each token's K and V.
    pub(crate) slots: &'a [u32],
    /// The sequence's block table.
    pub(crate) pages: &'a [u32],
    pub(crate) logits: Logits,
    /// The hidden state of a row without a token, `[hidden]`.
    pub(crate) hidden: Option<&'a [f32]>,
    /// Rows whose last hidden state is read back.
    pub(crate) keep: &'a [usize],
}

impl<'a> Rows<'a> {
    /// Without slots, known hidden states or hidden states to keep.
    pub(crate) fn new(class: Class, tokens: &'a [u32], position: usize, pages: &'a [u32], logits: Logits) -> Self {
        Self { class, tokens, position, slots: &[], pages, logits, hidden: None, keep: &[] }
    }
}

/// Which rows' logits are needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Logits {
    None,
    Last(Draw),
    /// The logits of every row; the last row draws a token.
    All(Draw),
}

impl Logits {
    /// How the last row draws its token, if it draws one.
    pub(crate) fn draw(&self) -> Option<&Draw> {
        match self {
            Self::None => None,
            Self::Last(draw) | Self::All(draw) => Some(draw),
        }
    }

    /// How many of `rows` rows give logits.
    pub(crate) fn rows(&self, rows: usize) -> usize {
        match self {
            Self::None => 0,
            Self::Last(_) => 1,
            Self::All(_) => rows.max(1),
        }
    }
}

/// How the GPU draws a row's token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Draw {
    pub(crate) k: u32,
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
    pub(crate) min_p: f32,
    /// In [0, 1).
    pub(crate) uniform: f32,
}

impl Draw {
    pub(crate) const GREEDY: Draw = Draw { k: 1, temperature: 1.0, top_p: 1.0, min_p: 0.0, uniform: 0.0 };
}

/// The words of the step buffer and the spans that read it.
pub(crate) struct Batch {
    pub(crate) words: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    pub(crate) logits: Option<Span>,
    /// The batch row of each group's last token; for a group without tokens, a row that no layer touches.
    pub(crate) last_rows: Vec<usize>,
}

/// Most bytes of a batch of `rows` rows of `sequences` sequences, with `angles` RoPE angles a row.
pub(crate) fn capacity(angles: usize, rows: usize, sequences: usize, context: usize) -> u64 {
    let per_row = 3 + 2 + 2 * angles + 4 + 1 + RUN + SAMPLING;
    let tables = sequences as u64 * context.div_ceil(PAGE) as u64 + cascade::most_words(sequences) as u64;
    4 * (3 * HEADER as u64 + rows as u64 * per_row as u64 + tables)
}

/// How the rows of a step become tiles of attention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiling {
    /// Query rows of a prompt tile.
    pub(crate) rows: usize,
    /// Which decode rows share tiles, if any may.
    pub(crate) sharing: Option<Sharing>,
}

/// Lays out `groups` (prompt rows before decode rows).
pub(crate) fn build(groups: &[Rows], angles: &[Angle], tiling: Tiling, buffer: Buffer) -> Batch {
    let mut sections = Sections::default();
    let mut spans = [SpanRows::default(), SpanRows::default()];
    let mut untouched: usize = groups.iter().map(|group| group.tokens.len()).sum();
    let mut last_rows = Vec::with_capacity(groups.len());
    for group in groups {
        let last = if group.tokens.is_empty() {
            untouched += 1;
            untouched - 1
        } else {
            let span = &mut spans[(group.class == Class::Decode) as usize];
            sections.add(group, angles, span, tiling.rows);
            sections.tokens.len() - 1
        };
        match group.logits {
            Logits::None => {}
            Logits::Last(draw) => sections.want(last as u32, draw),
            Logits::All(draw) => {
                let first = last + 1 - group.tokens.len().max(1);
                (first..last).for_each(|row| sections.want(row as u32, Draw::GREEDY));
                sections.want(last as u32, draw);
            }
        }
        last_rows.push(last);
    }
    let plan = plan(groups, tiling.sharing, spans[1].tiles.len() / 4);
    let Sections { tokens, slots, rope, tables, logit_rows, sampling, .. } = &sections;
    let mut words = vec![0; 3 * HEADER];
    let mut place = |section: &[u32]| {
        let at = words.len();
        words.extend_from_slice(section);
        at
    };
    let (tokens, slots, rope, tables) = (place(tokens), place(slots), place(rope), place(tables));
    let sampling = place(sampling);
    let lists = [place(&spans[0].rows), place(&spans[1].rows), place(logit_rows)];
    let tiles = [place(&spans[0].tiles), place(&spans[1].tiles), 0];
    let runs = [place(&spans[0].runs), place(&spans[1].runs), 0];
    let cascade = [[0, 0], [place(&plan.shared), place(&plan.tiles)], [0, 0]];
    let counts = [spans[0].rows.len(), spans[1].rows.len(), logit_rows.len()];
    for (index, count) in counts.into_iter().enumerate() {
        let base = index * HEADER;
        let relative = |at: usize| at.saturating_sub(base) as u32;
        let [shared, joint] = cascade[index];
        let header = [lists[index], tokens, slots, rope, tiles[index], tables, sampling, runs[index], shared, joint];
        let header = header.map(relative);
        words[base] = count as u32;
        words[base + 1..base + 1 + header.len()].copy_from_slice(&header);
    }

    let none = SpanRows::default();
    let span = |index: usize, class| {
        let SpanRows { tiles, runs, context, .. } = spans.get(index).unwrap_or(&none);
        let (tiles, runs) = (tiles.len() / 4, runs.len() / RUN);
        let cascade = if index == 1 { plan.cascade } else { Default::default() };
        Span { class, step: step_slice(buffer, index), rows: counts[index], tiles, cascade, runs, context: *context }
    };
    let rows = [(0, Class::Prompt), (1, Class::Decode)].into_iter().filter(|(index, _)| counts[*index] > 0);
    let logits = (counts[2] > 0).then(|| span(2, Class::Decode));
    Batch { words, spans: rows.map(|(index, class)| span(index, class)).collect(), logits, last_rows }
}

/// What the decode rows of `groups`, in `tiles` tiles, share.
fn plan(groups: &[Rows], sharing: Option<Sharing>, tiles: usize) -> Plan {
    let rows = groups.iter().filter(|group| group.class == Class::Decode && group.tokens.len() == 1);
    let rows: Vec<Row> = rows.map(|group| Row { position: group.position, pages: group.pages }).collect();
    match sharing {
        Some(sharing) if rows.len() == tiles => sharing.plan(&rows),
        _ => Plan { shared: vec![0; tiles], ..Plan::default() },
    }
}

/// The step buffer from the header of span `index` on.
fn step_slice(buffer: Buffer, index: usize) -> Slice {
    let offset = (index * HEADER * 4) as u64;
    buffer.slice(offset, buffer.size - offset)
}

#[derive(Default)]
struct SpanRows {
    rows: Vec<u32>,
    tiles: Vec<u32>,
    runs: Vec<u32>,
    context: usize,
}

#[derive(Default)]
struct Sections {
    tokens: Vec<u32>,
    slots: Vec<u32>,
    rope: Vec<u32>,
    tables: Vec<u32>,
    logit_rows: Vec<u32>,
    sampling: Vec<u32>,
}

impl Sections {
    fn add(&mut self, group: &Rows, angles: &[Angle], span: &mut SpanRows, tile_rows: usize) {
        let first = self.tokens.len();
        let count = group.tokens.len();
        self.tokens.extend_from_slice(group.tokens);
        self.slots.extend_from_slice(group.slots);
        for position in group.position..group.position + count {
            for Angle { per_token, magnitude } in angles {
                let (sin, cos) = (position as f64 * per_token).sin_cos();
                self.rope.extend([cos, sin].map(|x| ((x * magnitude) as f32).to_bits()));
            }
        }
        let table = self.tables.len();
        self.tables.extend_from_slice(group.pages);
        let in_span = span.rows.len();
        let page = |position: usize| group.pages.get(position / PAGE).copied().unwrap_or_default();
        let mut start = 0;
        while start < count {
            let position = group.position + start;
            let rows = (PAGE - position % PAGE).min(count - start);
            let run = [in_span + start, rows, position, start].map(|x| x as u32);
            span.runs.extend(run.into_iter().chain([page(group.position.saturating_sub(1))]));
            start += rows;
        }
        span.rows.extend(first as u32..(first + count) as u32);
        span.context = span.context.max(group.position + count);
        for start in (0..count).step_by(tile_rows) {
            let rows = (count - start).min(tile_rows);
            span.tiles.extend([first + start, rows, table, group.position + start].map(|x| x as u32));
        }
    }

    fn want(&mut self, row: u32, draw: Draw) {
        self.logit_rows.push(row);
        let floats = [draw.temperature, draw.top_p, draw.min_p, draw.uniform].map(f32::to_bits);
        self.sampling.push(draw.k);
        self.sampling.extend(floats);
    }
}
