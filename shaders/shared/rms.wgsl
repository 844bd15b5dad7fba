// 1 / RMS of the COLS elements of x from vec4 index `at` (Zhang & Sennrich, arXiv 1910.07467), for a workgroup. Each lane sums
// its own squares; then every lane adds all sums in the same order.
const QUADS = ${COLS/4}u;
var<workgroup> sums: array<f32, ${LANES}>;

fn inverse_rms(at: u32, lane: u32) -> f32 {
  var squares = 0.0;
  for (var quad = lane; quad < QUADS; quad += ${LANES}u) {
    let v = x[at + quad];
    squares = fma(v.w, v.w, fma(v.z, v.z, fma(v.y, v.y, fma(v.x, v.x, squares))));
  }
  sums[lane] = squares;
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < ${LANES}u; i++) { total += sums[i]; }
  return inverseSqrt(total / ${COLS}.0 + ${EPSILON:f32});
}
