// hidden[row] = SCALE embedding[token of row], dequantised. One thread for each unit of 8. A token that the host does not know
// yet (flag DRAWN) is the one that a row of the previous step has drawn.
#import shared/step
#import shared/matrix
@group(0) @binding(1) var<storage, read> weights: array<Word>;
@group(0) @binding(2) var<storage, read> drawn: array<u32>;
// [batch rows, UNITS * 8]
@group(0) @binding(3) var<storage, read_write> hidden: array<vec4<f32>>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let unit = group.x * ${LANES}u + lane;
  let row = batch_row(group.y);
  var token = token_of(row);
  if ((token & ${DRAWN}u) != 0u) { token = drawn[token & ~${DRAWN}u]; }
  if (unit >= UNITS || token < ${FIRST}u || token >= ${FIRST}u + ${ROWS_HERE}u) { return; }
  let local = token - ${FIRST}u;
#if SCALED
  let raw = load_unit(local, unit, load_scale(local, unit));
  let w = Unit(raw.lo * ${SCALE:f32}, raw.hi * ${SCALE:f32});
#else
  let w = load_unit(local, unit, load_scale(local, unit));
#endif
  hidden[(row * UNITS + unit) * 2u] = w.lo;
  hidden[(row * UNITS + unit) * 2u + 1u] = w.hi;
}
