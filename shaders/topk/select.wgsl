// Radix select. The order of the k-th best candidate is found digit by digit (8 bits each, highest first), each from a
// histogram of the candidates that share the digits before it. Of candidates equal to it, the first by index are chosen, so the
// order of atomics has no effect.
const DIGITS = 256u;
const GROUP = 16u;
const GROUPS = 16u;
const MARKS = ${MARKS}u;
// For each digit position: how many candidates have each digit value, and each group of values.
var<workgroup> bins: array<atomic<u32>, 4u * DIGITS>;
var<workgroup> groups: array<u32, 4u * GROUPS>;
// One bit for each candidate that equals the k-th best.
var<workgroup> marks: array<atomic<u32>, MARKS>;
var<workgroup> filled: atomic<u32>;
var<workgroup> chosen: array<Candidate, K>;
#if STAGE == 1
var<workgroup> ranked: array<Candidate, K>;
#import shared/draw
#endif

// Whether fewer than `limit` candidates are marked before index `i`.
fn among_first(i: u32, limit: u32) -> bool {
  var marked = countOneBits(atomicLoad(&marks[i / 32u]) & ((1u << (i % 32u)) - 1u));
  for (var word = 0u; word < i / 32u && marked < limit; word++) { marked += countOneBits(atomicLoad(&marks[word])); }
  return marked < limit;
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let wanted = step[step[7] + row * 5u];
  let count = count_of(group.x, wanted);
  let take = min(wanted, count);
  for (var i = lane; i < 4u * DIGITS; i += LANES) { atomicStore(&bins[i], 0u); }
  for (var i = lane; i < MARKS; i += LANES) { atomicStore(&marks[i], 0u); }
  if (lane == 0u) { atomicStore(&filled, 0u); }
  workgroupBarrier();

  // The known digits of the k-th best, and how many of the candidates that share them are to be taken.
  var last = 0u;
  var left = take;
  for (var place = 0u; place < 4u; place++) {
    let shift = 24u - 8u * place;
    for (var i = lane; i < count; i += LANES) {
      let digit = (candidate(row, group.x, i).order ^ last) >> shift;
      if (digit < DIGITS) { atomicAdd(&bins[place * DIGITS + digit], 1u); }
    }
    workgroupBarrier();
    for (var i = lane; i < GROUPS; i += LANES) {
      var sum = 0u;
      for (var digit = 0u; digit < GROUP; digit++) { sum += atomicLoad(&bins[place * DIGITS + i * GROUP + digit]); }
      groups[place * GROUPS + i] = sum;
    }
    workgroupBarrier();
    var i = GROUPS - 1u;
    for (; i > 0u && groups[place * GROUPS + i] < left; i--) { left -= groups[place * GROUPS + i]; }
    var digit = i * GROUP + GROUP - 1u;
    for (; digit > i * GROUP; digit--) {
      let same = atomicLoad(&bins[place * DIGITS + digit]);
      if (same >= left) { break; }
      left -= same;
    }
    last |= digit << shift;
  }

  for (var i = lane; i < count; i += LANES) {
    if (candidate(row, group.x, i).order == last) { atomicOr(&marks[i / 32u], 1u << (i % 32u)); }
  }
  workgroupBarrier();
  for (var i = lane; i < count; i += LANES) {
    let one = candidate(row, group.x, i);
    if (one.order > last || (one.order == last && among_first(i, left))) { chosen[atomicAdd(&filled, 1u)] = one; }
  }
  workgroupBarrier();
  for (var i = lane; i < take; i += LANES) {
    let one = chosen[i];
    var rank = 0u;
    for (var other = 0u; other < take; other++) { rank += u32(before(chosen[other], one)); }
#if STAGE == 0
    lists[list_at(row, group.x, wanted) + rank] = one;
#else
    ranked[rank] = one;
    best[row * K + rank] = Logit(logit_of(one.order), one.id);
#endif
  }
#if STAGE == 1
  workgroupBarrier();
  for (var i = lane; i < take; i += LANES) { weights[i] = weight_of(row, i); }
  workgroupBarrier();
  if (lane == 0u) { drawn[row] = draw(row); }
#endif
}
