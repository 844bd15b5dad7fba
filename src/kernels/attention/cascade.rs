//! Cascade attention (Hydragen, arXiv 2402.05099): decode rows of sequences that share pages read them together.
//!
//! A tile here has rows of several sequences, and whole splits whose pages all of these have. It computes for each row
//! what the row's own tile would, so who shares with whom changes no bit. The rows' own tiles begin after those splits.
//!
//! Each step compares the rows' block tables anew, which costs less than copying them. So nothing goes stale when a
//! sequence begins, grows or ends.

use super::{MOST_SPLITS, PAGE, shared, split};
use crate::gpu::{AdapterKind, Caps};
use crate::kernels::Heads;

/// Least workgroups of a GPU for which fewer reads are worth fewer workgroups and one more dispatch: by estimate, two
/// for each multiprocessor of the largest.
const LEAST_GROUPS: usize = 256;

/// A decode row.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its position, so the number of tokens before it.
    pub position: usize,
    /// The sequence's block table.
    pub pages: &'a [u32],
}

/// The tiles of a step: counts of what the step buffer lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cascade {
    /// Tiles of rows that share splits.
    pub tiles: usize,
    /// Most rows of a tile.
    pub tile_rows: usize,
    /// Rows in them; one that is in tiles for several ranges of splits counts once.
    pub rows: usize,
    /// Most splits of a tile.
    pub splits: usize,
    /// Most splits that a row computes alone.
    pub alone: usize,
    /// Tokens that the tiles read.
    pub read: usize,
    /// Tokens that rows do not read alone.
    pub spared: usize,
    /// The end of the last shared split, in tokens.
    pub end: usize,
    /// The lowest position of a row that shares any.
    pub first: usize,
}

/// The tiles of a step, as `shaders/attention.wgsl` reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By row: the splits that it shares, counted from token 0.
    pub shared: Vec<u32>,
    /// By tile: the number of rows, the first split, the split after the last, then as many indices of rows as a tile
    /// can have. The rows are in order of their positions.
    pub tiles: Vec<u32>,
    pub cascade: Cascade,
}

/// Which rows share splits on an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// Most rows of a tile.
    pub rows: usize,
    /// Least tokens of a split.
    pub split: usize,
    pub kv_heads: usize,
    /// Least workgroups, below which each row stays alone.
    pub least_groups: usize,
}

/// Words of a tile with room for `rows` rows.
fn tile_words(rows: usize) -> usize {
    3 + rows
}

/// Most words of the tiles of `rows` rows: in the worst case each range of splits is shared by one row less.
pub fn most_words(rows: usize) -> usize {
    // Tiles of two rows need the most words for each row, tiles of eight the most for a lone row.
    rows * (rows + 1) / 2 * tile_words(2) / 2 + rows * tile_words(8)
}

impl Sharing {
    /// `None` if nothing is shared: see [`shared`].
    pub fn of(heads: &Heads, caps: &Caps, room: usize) -> Option<Self> {
        let variant = shared(heads, caps, room)?;
        let least_groups = match caps.kind {
            AdapterKind::Cpu => 1,
            AdapterKind::Gpu => LEAST_GROUPS,
        };
        Some(Self { rows: variant.rows, split: split(caps.kind, room), kv_heads: heads.kv_heads, least_groups })
    }

    /// The splits that `rows` share. It takes time proportional to the tables' lengths.
    pub fn plan(&self, rows: &[Row]) -> Plan {
        let mut plan = Plan { shared: vec![0; rows.len()], ..Plan::default() };
        let mut all: Vec<usize> = (0..rows.len()).collect();
        self.share(rows, &mut all, 0, &mut plan);
        let tile = |words: &[u32]| (words[2] - words[1]) as usize;
        let splits = plan.tiles.chunks_exact(tile_words(self.rows)).map(tile);
        if splits.clone().sum::<usize>() * self.kv_heads < self.least_groups {
            return Plan { shared: vec![0; rows.len()], ..Plan::default() };
        }
        (plan.cascade.splits, plan.cascade.tile_rows) = (splits.max().unwrap_or(0), self.rows);
        for (row, &shared) in rows.iter().zip(&plan.shared) {
            let (shared, split) = (shared as usize, self.split_of(row));
            let cascade = &mut plan.cascade;
            cascade.alone = cascade.alone.max((row.position + 1).div_ceil(split) - shared);
            if shared > 0 {
                cascade.first = if cascade.rows == 0 { row.position } else { cascade.first.min(row.position) };
                cascade.rows += 1;
                cascade.spared += shared * split;
                cascade.end = cascade.end.max(shared * split);
            }
        }
        plan
    }

    /// Lists the tiles of `members`, which share all splits before `from`, and which rows of them share more.
    fn share(&self, rows: &[Row], members: &mut [usize], from: usize, plan: &mut Plan) {
        let pages = |row: usize, split: usize| self.pages(&rows[row], split);
        members.sort_unstable_by_key(|&row| (pages(row, from), rows[row].position));
        for same in members.chunk_by_mut(|&a, &b| pages(a, from) == pages(b, from)) {
            let first = same[0];
            if 2 * same.len() < self.rows.max(4) || pages(first, from).is_none() {
                continue;
            }
            let mut to = from + 1;
            while pages(first, to).is_some() && same.iter().all(|&row| pages(row, to) == pages(first, to)) {
                to += 1;
            }
            let tiles = same.len().div_ceil(self.rows);
            for tile in 0..tiles {
                let own = &same[tile * same.len() / tiles..(tile + 1) * same.len() / tiles];
                plan.tiles.extend([own.len(), from, to].map(|word| word as u32));
                plan.tiles.extend((0..self.rows).map(|i| own.get(i).map_or(0, |&row| row as u32)));
            }
            plan.cascade.tiles += tiles;
            plan.cascade.read += tiles * (to - from) * self.split_of(&rows[first]);
            same.iter().for_each(|&row| plan.shared[row] = to as u32);
            self.share(rows, same, to, plan);
        }
    }

    /// The pages of a split that ends before the row's own token. Rows with splits of other lengths have others.
    fn pages<'a>(&self, row: &Row<'a>, split: usize) -> Option<&'a [u32]> {
        let tokens = self.split_of(row);
        let end = (split + 1) * tokens;
        (end <= row.position).then(|| row.pages.get(end / PAGE - tokens / PAGE..end / PAGE)).flatten()
    }

    /// Tokens of each of the row's splits: see `shaders/shared/splits.wgsl`.
    fn split_of(&self, row: &Row) -> usize {
        self.split.max((row.position + 1).div_ceil(MOST_SPLITS * PAGE) * PAGE)
    }
}
