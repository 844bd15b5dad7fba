// out[row, head, :] = the exact softmax-weighted sum of the splits' partial results, in split order.
#import shared/step
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

const HEAD_DIM = ${HEAD_DIM}u;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let at = step[5] + group.y * 4u;
  let row = step[at];
  let tokens = step[at + 3u] + 1u;
  let splits = (tokens + ${SPLIT}u - 1u) / ${SPLIT}u;
  let base = (row * ${HEADS}u + head) * ${SPLITS}u;
  var top = -1e30;
  for (var s = 0u; s < splits; s++) { top = max(top, partials[(base + s) * (HEAD_DIM + 2u)]); }
  for (var d = lane; d < HEAD_DIM; d += ${LANES}u) {
    var sum = 0.0;
    var value = 0.0;
    for (var s = 0u; s < splits; s++) {
      let part = (base + s) * (HEAD_DIM + 2u);
      let weight = exp(partials[part] - top);
      sum = fma(weight, partials[part + 1u], sum);
      value = fma(weight, partials[part + 2u + d], value);
    }
    out[(row * ${HEADS}u + head) * HEAD_DIM + d] = value / sum;
  }
}
