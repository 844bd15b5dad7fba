// The epilogue of a QKV matrix for what needs whole heads: where NORMED, RMSNorm (Zhang & Sennrich, arXiv 1910.07467) over each
// head of Q and K, or with WHOLE over all heads of Q and all of K; then RoPE and the write to `kv`, with KV_Q8 in 8 bits. One
// workgroup for each head of a row; every lane adds the squares in the same order.
#import shared/step
// [span rows, HEADS + 2 KV_HEADS, HEAD_DIM]
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> kv: array<u32>;
#if NORMED
// [2, HEAD_DIM] for Q and K; with WHOLE [HEADS + KV_HEADS, HEAD_DIM]
@group(0) @binding(4) var<storage, read> gains: array<vec2<f32>>;
#endif
#import shared/heads
#if KV_Q8
#import head_norm/quantize
#endif

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let at = (group.y * (${HEADS}u + 2u * KV_HEADS) + head) * PAIRS;
  let batch = batch_row(group.y);
#if NORMED
  let normed = head < ${HEADS}u + KV_HEADS;
  var factor = 1.0;
  if (normed) {
#if WHOLE
    let is_query = head < ${HEADS}u;
    let start = at - select(head - ${HEADS}u, head, is_query) * PAIRS;
    let count = select(KV_HEADS, ${HEADS}u, is_query) * PAIRS;
#else
    let start = at;
    let count = PAIRS;
#endif
    var squares = 0.0;
    for (var pair = 0u; pair < count; pair++) {
      let v = x[start + pair];
      squares = fma(v.y, v.y, fma(v.x, v.x, squares));
    }
    factor = inverseSqrt(squares / f32(2u * count) + ${EPSILON:f32});
  }
#if WHOLE
  let own_gains = head * PAIRS;
#else
  let own_gains = select(PAIRS, 0u, head < ${HEADS}u);
#endif
#endif
  for (var pair = lane; pair < PAIRS; pair += ${LANES}u) {
    var v = x[at + pair];
#if NORMED
    if (normed) { v *= factor * gains[own_gains + pair]; }
#endif
#if KV_Q8
    let out = rotated(batch, head, pair, v);
    if (head < ${HEADS}u) { put_query(batch, head, pair, out); }
    own[pair * 2u] = clamp(out.x, -MOST, MOST);
    own[pair * 2u + 1u] = clamp(out.y, -MOST, MOST);
#else
    put_pair(batch, head, pair, v);
#endif
  }
#if KV_Q8
  workgroupBarrier();
  if (head < ${HEADS}u) { return; }
  for (var word = lane; word < WORDS; word += ${LANES}u) { put_word(batch, head, word, word_of(word)); }
#endif
}
