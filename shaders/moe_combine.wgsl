// y[batch row] += SCALE · sum over the row's choices, in order, of weight · x[choice]. One invocation for each four columns.
#import shared/step
// [span rows, USED]: (expert, bits of its weight), as moe_route writes them
@group(0) @binding(1) var<storage, read> choices: array<vec2<u32>>;
// [span rows, USED, COLS]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
// [batch rows, COLS]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

const QUADS = ${COLS/4}u;
const USED = ${USED}u;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let quad = group.x * ${LANES}u + lane;
  if (quad >= QUADS) { return; }
  var sum = vec4(0.0);
  for (var choice = group.y * USED; choice < (group.y + 1u) * USED; choice++) {
    sum = fma(vec4(bitcast<f32>(choices[choice].y)), x[choice * QUADS + quad], sum);
  }
  y[batch_row(group.y) * QUADS + quad] += ${SCALE:f32} * sum;
}
