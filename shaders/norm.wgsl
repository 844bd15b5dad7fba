// normed[batch row] = gains RMSNorm(x[batch row]) as f16; without NORM, x itself as f16. One workgroup for each row.
enable f16;
#import shared/step
#import shared/halves
// [batch rows, COLS]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gains: array<vec4<f32>>;
// [batch rows, COLS]
@group(0) @binding(3) var<storage, read_write> normed: array<vec4<f16>>;
#if NORM
#import shared/rms
#else
const QUADS = ${COLS/4}u;
#endif

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = batch_row(group.x) * QUADS;
#if NORM
  let factor = inverse_rms(at, lane);
  for (var quad = lane; quad < QUADS; quad += ${LANES}u) { normed[at + quad] = halves(x[at + quad] * gains[quad] * factor); }
#else
  for (var quad = lane; quad < QUADS; quad += ${LANES}u) { normed[at + quad] = halves(x[at + quad]); }
#endif
}
