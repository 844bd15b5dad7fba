// The top k of each row's logits, best first (ties: the lower id), and the sampled token. Stage 0 selects within chunks of the
// vocabulary, stage 1 among the chunks' lists. k is the row's own; a chunk lists k candidates, or all that it has. Logits are
// compared by their bits, because compilers may assume that every float is finite. A row with a logit that is not finite has no
// best token.
#import shared/step
// `order` sorts as the logit does.
struct Candidate { order: u32, id: u32 }
#if STAGE == 0
// [rows, VOCAB]
@group(0) @binding(1) var<storage, read> logits: array<u32>;
// [rows, CHUNKS * K]
@group(0) @binding(2) var<storage, read_write> lists: array<Candidate>;
#else
struct Logit { logit: f32, id: u32 }
@group(0) @binding(1) var<storage, read> lists: array<Candidate>;
// [rows, K]
@group(0) @binding(2) var<storage, read_write> best: array<Logit>;
@group(0) @binding(3) var<storage, read_write> drawn: array<u32>;
#endif

const K = ${K}u;
const LANES = ${LANES}u;
const VOCAB = ${VOCAB}u;
const CHUNK = ${CHUNK}u;
const CHUNKS = ${CHUNKS}u;
const INFINITY = 0x7f800000u;
const NOT_FINITE = 0xffffffffu;
const ZERO = 0x80000000u;

// Both zeros map to the same order.
fn order_of(bits: u32) -> u32 {
  let size = bits & ~ZERO;
  let order = select(ZERO + size, ZERO - size, (bits & ZERO) != 0u);
  return select(order, NOT_FINITE, size >= INFINITY);
}
fn logit_of(order: u32) -> f32 { return bitcast<f32>(select((ZERO - order) | ZERO, order - ZERO, order >= ZERO)); }
fn before(a: Candidate, b: Candidate) -> bool { return a.order > b.order || (a.order == b.order && a.id < b.id); }

fn list_at(row: u32, chunk: u32, wanted: u32) -> u32 { return row * CHUNKS * K + chunk * wanted; }

// The candidates of a workgroup; equal logits are in order of their ids.
#if STAGE == 0
fn count_of(chunk: u32, wanted: u32) -> u32 { return min(CHUNK, VOCAB - chunk * CHUNK); }
fn candidate(row: u32, chunk: u32, i: u32) -> Candidate {
  let id = chunk * CHUNK + i;
  return Candidate(order_of(logits[row * VOCAB + id]), id);
}
#else
fn count_of(chunk: u32, wanted: u32) -> u32 {
  return (CHUNKS - 1u) * wanted + min(wanted, VOCAB - (CHUNKS - 1u) * CHUNK);
}
fn candidate(row: u32, chunk: u32, i: u32) -> Candidate { return lists[list_at(row, 0u, 0u) + i]; }
#endif

#if K == 1
#import topk/greedy
#else
#import topk/select
#endif
