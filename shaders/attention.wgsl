// Causal attention of a tile of query rows of one sequence with all query heads of one KV head (GQA, arXiv 2305.13245),
// over pages found through the block table. Online softmax (Milakov & Gimelshein, arXiv 1805.02867) over pages in order
// from token 0, so a row's result does not depend on how rows are grouped.
//
// SPLIT == 0: the whole context in one pass, out = softmax(q k^T / sqrt(HEAD_DIM)) v.
// SPLIT > 0: z is a range of SPLIT tokens; (max, sum, unnormalised out) of each go to `out` for attention_merge.
#import shared/step
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> kv: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
#import shared/page

const GROUP = ${GROUP}u;
const HEADS = KV_HEADS * GROUP;
const SCALE = ${SCALE:f32};
const LOWEST = -1e30;

// A tile: rows first .. first + count of the span's sequence, its block table, the position of the first row.
struct Tile { first: u32, count: u32, table: u32, position: u32 }
fn tile_of(index: u32) -> Tile {
  let at = step[5] + index * 4u;
  return Tile(step[at], step[at + 1u], step[6] + step[at + 2u], step[at + 3u]);
}

#if SHAPE == 0
#import attention/rows
#endif
#if SHAPE == 1
#import attention/group
#endif
