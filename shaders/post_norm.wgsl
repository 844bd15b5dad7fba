// hidden[batch row] += SCALE gains RMSNorm(x[row of the span]). One workgroup for each row.
#import shared/step
// [span rows, COLS]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gains: array<vec4<f32>>;
// [batch rows, COLS]
@group(0) @binding(3) var<storage, read_write> hidden: array<vec4<f32>>;
#import shared/rms

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let x_at = group.x * QUADS;
  let hidden_at = batch_row(group.x) * QUADS;
  let factor = ${SCALE:f32} * inverse_rms(x_at, lane);
  for (var quad = lane; quad < QUADS; quad += ${LANES}u) {
    hidden[hidden_at + quad] += x[x_at + quad] * gains[quad] * factor;
  }
}
