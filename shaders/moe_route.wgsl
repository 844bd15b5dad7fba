// Chooses the experts of each row: the USED highest of its EXPERTS scores, best first; of equal scores the lower expert
// (Shazeer et al., arXiv 1701.06538; transformers' modeling_qwen3_moe.py, Qwen3MoeTopKRouter). Their weights are the softmax of
// the scores over all experts, or with NORMALIZED over the chosen ones. One workgroup for each row.
#import shared/step
// [span rows, EXPERTS]
@group(0) @binding(1) var<storage, read> scores: array<f32>;
// [span rows, USED]: (expert, bits of its weight)
@group(0) @binding(2) var<storage, read_write> choices: array<vec2<u32>>;

const EXPERTS = ${EXPERTS}u;
const USED = ${USED}u;
const LANES = ${LANES}u;
var<workgroup> own: array<f32, EXPERTS>;
var<workgroup> chosen: array<u32, USED>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var expert = lane; expert < EXPERTS; expert += LANES) { own[expert] = scores[group.x * EXPERTS + expert]; }
  // NaN scores have no order. The default choice keeps the indices valid.
  for (var rank = lane; rank < USED; rank += LANES) { chosen[rank] = rank; }
  workgroupBarrier();
  for (var expert = lane; expert < EXPERTS; expert += LANES) {
    let score = own[expert];
    var rank = 0u;
    for (var other = 0u; other < EXPERTS; other++) {
      rank += u32(own[other] > score || (own[other] == score && other < expert));
    }
    if (rank < USED) { chosen[rank] = expert; }
  }
  workgroupBarrier();
  let best = own[chosen[0]];
  for (var rank = lane; rank < USED; rank += LANES) {
    var sum = 0.0;
#if NORMALIZED
    for (var other = 0u; other < USED; other++) { sum += exp(own[chosen[other]] - best); }
#else
    for (var other = 0u; other < EXPERTS; other++) { sum += exp(own[other] - best); }
#endif
    let weight = exp(own[chosen[rank]] - best) / sum;
    choices[group.x * USED + rank] = vec2(chosen[rank], bitcast<u32>(weight));
  }
}
