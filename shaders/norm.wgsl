// normed[batch row] = gains RMSNorm(x[batch row]) (Zhang & Sennrich, arXiv 1910.07467), as f16. One workgroup a row; each lane
// keeps its own sum of squares, and every lane adds those in one order.
enable f16;
#import shared/step
#import shared/halves
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gains: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> normed: array<vec4<f16>>;

const QUADS = ${COLS/4}u;
var<workgroup> sums: array<f32, ${LANES}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = batch_row(group.x) * QUADS;
  var squares = 0.0;
  for (var quad = lane; quad < QUADS; quad += ${LANES}u) {
    let v = x[at + quad];
    squares = fma(v.w, v.w, fma(v.z, v.z, fma(v.y, v.y, fma(v.x, v.x, squares))));
  }
  sums[lane] = squares;
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < ${LANES}u; i++) { total += sums[i]; }
  let factor = inverseSqrt(total / ${COLS}.0 + ${EPSILON:f32});
  for (var quad = lane; quad < QUADS; quad += ${LANES}u) { normed[at + quad] = halves(x[at + quad] * gains[quad] * factor); }
}
