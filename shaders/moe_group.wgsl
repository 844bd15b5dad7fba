// Groups a span's choices by expert into tiles of at most T, so that an expert's matrix is read once for T rows. Tiles are in
// order of their experts, the choices of an expert in their own order; unused tiles have no expert. One workgroup; each lane
// collects the choices of its experts.
#import shared/step
// [span rows, USED]: (expert, bits of its weight), as moe_route writes them
@group(0) @binding(1) var<storage, read> choices: array<vec2<u32>>;
// [tiles, 1 + T]: the expert, then its choices, padded with NONE
@group(0) @binding(2) var<storage, read_write> tiles: array<u32>;

const NONE = 0xffffffffu;
const EXPERTS = ${EXPERTS}u;
const LANES = ${LANES}u;
const T = ${T}u;
var<workgroup> counts: array<u32, EXPERTS>;

@compute @workgroup_size(${LANES})
fn main(@builtin(local_invocation_index) lane: u32) {
  let all = span_rows() * ${USED}u;
  for (var expert = lane; expert < EXPERTS; expert += LANES) {
    var count = 0u;
    for (var i = 0u; i < all; i++) { count += u32(choices[i].x == expert); }
    counts[expert] = (count + T - 1u) / T;
  }
  workgroupBarrier();
  for (var expert = lane; expert < EXPERTS; expert += LANES) {
    var tile = 0u;
    for (var before = 0u; before < expert; before++) { tile += counts[before]; }
    var filled = 0u;
    for (var i = 0u; i < all; i++) {
      if (choices[i].x != expert) { continue; }
      if (filled == 0u) { tiles[tile * (T + 1u)] = expert; }
      tiles[tile * (T + 1u) + 1u + filled] = i;
      filled++;
      if (filled == T) {
        filled = 0u;
        tile++;
      }
    }
    if (filled > 0u) {
      for (; filled < T; filled++) { tiles[tile * (T + 1u) + 1u + filled] = NONE; }
    }
  }
  var total = 0u;
  for (var expert = 0u; expert < EXPERTS; expert++) { total += counts[expert]; }
  for (var tile = total + lane; tile < all / T + min(all, EXPERTS); tile += LANES) { tiles[tile * (T + 1u)] = NONE; }
}
