// Argmax, for k = 1.
var<workgroup> found: array<Candidate, LANES>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let count = count_of(group.x, 1u);
  var mine = Candidate(0u, NOT_FINITE);
  for (var i = lane; i < count; i += LANES) {
    // A lane's ids ascend, so of equal logits it keeps the first.
    let other = candidate(row, group.x, i);
    if (other.order > mine.order) { mine = other; }
  }
  found[lane] = mine;
  workgroupBarrier();
#for s in 0..HALVINGS
  if (lane < (LANES >> ${s+1}u)) {
    let other = found[lane + (LANES >> ${s+1}u)];
    if (before(other, found[lane])) { found[lane] = other; }
  }
  workgroupBarrier();
#end
  if (lane > 0u) { return; }
  let first = found[0];
#if STAGE == 0
  lists[list_at(row, group.x, 1u)] = first;
#else
  best[row] = Logit(logit_of(first.order), first.id);
  drawn[row] = select(first.id, NOT_FINITE, first.order == NOT_FINITE);
#endif
}
