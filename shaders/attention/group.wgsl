// Lanes are tokens of a tile of LANES tokens for the scores, then pairs of dims for the output. Queries and weights lie in
// workgroup memory by fours of query rows (T · GROUP of them), so that one load serves four rows. The shape for GPUs, and
// for any adapter whose lanes meet only in workgroup memory.
const LANES = ${LANES}u;
const ROWS = ${T*GROUP}u;
// vec4s that hold a value of every query row.
const QUADS = ${QUADS}u;
// vec4s from one token's weights to the next one's: odd, so that lanes meet in no bank.
const STRIDE = ${STRIDE}u;
// Tokens that the lanes take at a time for the output.
const SLICES = ${SLICES}u;
// Lanes that join the values of one quad.
const PARTS = ${PARTS}u;
var<workgroup> queries: array<vec4<f32>, HEAD_DIM * QUADS>;
var<workgroup> weights: array<vec4<f32>, LANES * STRIDE>;
var<workgroup> parts: array<vec4<f32>, QUADS * PARTS>;
var<workgroup> pages: array<u32, (LANES + PAGE - 1u) / PAGE>;
#if SLICED
var<workgroup> slices: array<vec4<f32>, PAIRS * QUADS * 2u>;
#endif

fn query(tile: Tile, head: u32, r: u32, dim: u32) -> f32 {
  let row = tile.first + min(r / GROUP, tile.count - 1u);
  return q[(row * HEADS + head * GROUP + r % GROUP) * HEAD_DIM + dim];
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let tile = tile_of(group.y);
  let total = tile.position + tile.count;
#if SPLIT
  let start = group.z * ${SPLIT}u;
  let end = min(total, start + ${SPLIT}u);
  if (start >= total) { return; }
#else
  let start = 0u;
  let end = total;
#endif
  for (var i = lane; i < HEAD_DIM * QUADS; i += LANES) {
    let dim = i % HEAD_DIM;
    let r = i / HEAD_DIM * 4u;
    let four = vec4(query(tile, head, r, dim), query(tile, head, r + 1u, dim), query(tile, head, r + 2u, dim), query(tile, head, r + 3u, dim));
    queries[dim * QUADS + i / HEAD_DIM] = four * SCALE;
  }
  let slice = lane / PAIRS;
  let pair = lane % PAIRS;
#for i in 0..QUADS
  // The last token that each row sees.
  let limit${i} = min(vec4(tile.position) + (vec4(${i*4}u) + vec4(0u, 1u, 2u, 3u)) / vec4(GROUP), vec4(end - 1u));
  var max${i} = vec4(LOWEST);
  var sum${i} = vec4(0.0);
#for o in 0..OUT_STEPS
  var x${i}_${o} = vec4(0.0);
  var y${i}_${o} = vec4(0.0);
#end
#end
  workgroupBarrier();
  for (var base = start; base < end; base += LANES) {
    let token = min(base + lane, end - 1u);
    let page = step[tile.table + token / PAGE];
    if (lane % PAGE == 0u) { pages[lane / PAGE] = page; }
    let keys = k_word(page, head, 0u) + token % PAGE;
#for i in 0..QUADS
    var s${i} = vec4(0.0);
#end
    for (var p = 0u; p < PAIRS; p += 4u) {
#for c in 0..4
      {
        let k = unpack2x16float(kv[keys + (p + ${c}u) * PAGE]);
        let at = (p + ${c}u) * ${QUADS*2}u;
#for i in 0..QUADS
        s${i} = fma(vec4(k.y), queries[at + ${QUADS+i}u], fma(vec4(k.x), queries[at + ${i}u], s${i}));
#end
      }
#end
    }
#for i in 0..QUADS
    let seen${i} = vec4(base + lane) <= limit${i};
    s${i} = select(vec4(LOWEST), s${i}, seen${i});
    weights[lane * STRIDE + ${i}u] = s${i};
#end
    workgroupBarrier();
    for (var i = lane; i < QUADS * PARTS; i += LANES) {
      let quad = i / PARTS;
      var top = weights[i % PARTS * STRIDE + quad];
      for (var j = i % PARTS + PARTS; j < LANES; j += PARTS) { top = max(top, weights[j * STRIDE + quad]); }
      parts[i] = top;
    }
    workgroupBarrier();
#for i in 0..QUADS
    {
      var top = max${i};
#for j in 0..PARTS
      top = max(top, parts[${i*PARTS+j}u]);
#end
      let shrink = exp(max${i} - top);
      let p = select(vec4(0.0), exp(s${i} - top), seen${i});
      max${i} = top;
      sum${i} = fma(sum${i}, shrink, p);
      weights[lane * STRIDE + ${i}u] = p;
#for o in 0..OUT_STEPS
      x${i}_${o} *= shrink;
      y${i}_${o} *= shrink;
#end
    }
#end
    workgroupBarrier();
    let count = min(end - base, LANES);
    for (var j = select(LANES, slice, slice < SLICES); j < count; j += 4u * SLICES) {
#for c in 0..4
      {
        // A weight past the end is 0; the value beside it is the last one again.
        let at = (j + ${c}u * SLICES) * STRIDE;
        let near = min(j + ${c}u * SLICES, count - 1u);
        let values = v_word(pages[near / PAGE], head, (base + near) % PAGE);
#for o in 0..OUT_STEPS
        let v${o} = unpack2x16float(kv[values + min(pair + ${o*LANES}u, PAIRS - 1u)]);
#end
#for i in 0..QUADS
        let w${i} = weights[at + ${i}u];
#for o in 0..OUT_STEPS
        x${i}_${o} = fma(w${i}, vec4(v${o}.x), x${i}_${o});
        y${i}_${o} = fma(w${i}, vec4(v${o}.y), y${i}_${o});
#end
#end
      }
#end
    }
    workgroupBarrier();
  }
#for i in 0..QUADS
  weights[lane * STRIDE + ${i}u] = sum${i};
#end
  workgroupBarrier();
  for (var i = lane; i < QUADS * PARTS; i += LANES) {
    var part = vec4(0.0);
    for (var j = i % PARTS; j < LANES; j += PARTS) { part += weights[j * STRIDE + i / PARTS]; }
    parts[i] = part;
  }
#if SLICED
#for s in 1..SLICES
  workgroupBarrier();
  if (slice == ${s}u) {
#for i in 0..QUADS
    slices[(pair * QUADS + ${i}u) * 2u] = x${i}_0;
    slices[(pair * QUADS + ${i}u) * 2u + 1u] = y${i}_0;
#end
  }
  workgroupBarrier();
  if (slice == 0u) {
#for i in 0..QUADS
    x${i}_0 += slices[(pair * QUADS + ${i}u) * 2u];
    y${i}_0 += slices[(pair * QUADS + ${i}u) * 2u + 1u];
#end
  }
#end
#endif
  workgroupBarrier();
  if (slice > 0u) { return; }
#for i in 0..QUADS
  {
    var whole = vec4(0.0);
#for j in 0..PARTS
    whole += parts[${i*PARTS+j}u];
#end
#for c in 0..4
    if (${i*4+c}u < ROWS && ${i*4+c}u / GROUP < tile.count) {
#if SPLIT
      let at = partial_at(group.y, head * GROUP + ${i*4+c}u % GROUP, group.z);
      if (lane == 0u) {
        out[at] = max${i}[${c}];
        out[at + 1u] = whole[${c}];
      }
      let values = at + 2u;
      let scale = 1.0;
#else
      let values = ((tile.first + ${i*4+c}u / GROUP) * HEADS + head * GROUP + ${i*4+c}u % GROUP) * HEAD_DIM;
      let scale = 1.0 / whole[${c}];
#endif
#for o in 0..OUT_STEPS
      if (pair + ${o*LANES}u < PAIRS) {
        out[values + (pair + ${o*LANES}u) * 2u] = x${i}_${o}[${c}] * scale;
        out[values + (pair + ${o*LANES}u) * 2u + 1u] = y${i}_${o}[${c}] * scale;
      }
#end
    }
#end
  }
#end
}
