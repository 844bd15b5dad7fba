// The K best of a row's logits, best first (ties: the lower id): stage 0 over chunks of the vocabulary, stage 1 over the
// chunks' lists. Each pass finds the best entry that comes after the last one found, so nothing is marked or copied. A
// row with a logit that is not finite has no best token: its first candidate is one that no vocabulary has.
#import shared/step
struct Candidate { logit: f32, id: u32 }
#if STAGE == 0
@group(0) @binding(1) var<storage, read> logits: array<f32>;
#else
@group(0) @binding(1) var<storage, read> lists: array<Candidate>;
#endif
@group(0) @binding(2) var<storage, read_write> best: array<Candidate>;
#if DRAW
@group(0) @binding(3) var<storage, read_write> drawn: array<u32>;
#import shared/draw
#endif

const LANES = ${LANES}u;
const LOWEST = Candidate(-3.4e38, 0xffffffffu);
const NOT_FINITE = Candidate(3.4e38, 0xffffffffu);
const EXPONENT = 0x7f800000u;
var<workgroup> shared_best: array<Candidate, LANES>;

fn before(a: Candidate, b: Candidate) -> bool { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y;
  let wanted = step[step[7] + row * 5u];
#if STAGE == 0
  let start = group.x * ${CHUNK}u;
  let end = min(start + ${CHUNK}u, ${VOCAB}u);
#else
  let start = 0u;
  let end = ${CHUNKS}u * wanted;
#endif
  var last = LOWEST;
  for (var k = 0u; k < wanted; k++) {
    var mine = LOWEST;
    for (var i = start + lane; i < end; i += LANES) {
#if STAGE == 0
      let logit = logits[row * ${VOCAB}u + i];
      // By its bits: compilers may take for granted that every number is finite.
      let finite = (bitcast<u32>(logit) & EXPONENT) != EXPONENT;
      var candidate = NOT_FINITE;
      if (finite) { candidate = Candidate(logit, i); }
#else
      let candidate = lists[(row * ${CHUNKS}u + i / wanted) * ${K}u + i % wanted];
#endif
      if (before(candidate, mine) && (k == 0u || before(last, candidate))) { mine = candidate; }
    }
    shared_best[lane] = mine;
    workgroupBarrier();
#for s in 0..HALVINGS
    if (lane < (LANES >> ${s+1}u)) {
      let other = shared_best[lane + (LANES >> ${s+1}u)];
      if (before(other, shared_best[lane])) { shared_best[lane] = other; }
    }
    workgroupBarrier();
#end
    last = shared_best[0];
    workgroupBarrier();
    if (lane == 0u) {
#if STAGE == 0
      best[(row * ${CHUNKS}u + group.x) * ${K}u + k] = last;
#else
      best[row * ${K}u + k] = last;
#endif
    }
  }
#if DRAW
  workgroupBarrier();
  if (lane == 0u) { drawn[row] = draw(row); }
#endif
}
