// RMSNorm (Zhang & Sennrich, arXiv 1910.07467) over each head of Q and K, then what the epilogue of a QKV matrix does where
// heads have no norm. One workgroup a head of a row; every lane sums the whole head in one order.
#import shared/step
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;
// [2, HEAD_DIM]: of Q, of K
@group(0) @binding(2) var<storage, read> gains: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> kv: array<u32>;
#import shared/heads

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let at = (group.y * (${HEADS}u + 2u * KV_HEADS) + head) * PAIRS;
  let batch = batch_row(group.y);
  let normed = head < ${HEADS}u + KV_HEADS;
  var factor = 1.0;
  if (normed) {
    var squares = 0.0;
    for (var pair = 0u; pair < PAIRS; pair++) {
      let v = x[at + pair];
      squares = fma(v.y, v.y, fma(v.x, v.x, squares));
    }
    factor = inverseSqrt(squares / f32(HEAD_DIM) + ${EPSILON:f32});
  }
  for (var pair = lane; pair < PAIRS; pair += ${LANES}u) {
    var v = x[at + pair];
    if (normed) { v *= factor * gains[select(PAIRS, 0u, head < ${HEADS}u) + pair]; }
    put_pair(batch, head, pair, v);
  }
}
