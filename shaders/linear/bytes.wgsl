// Tiles of R weight rows and T tokens in 8 bits, a block of 32 columns at a time. The products within a group of columns that
// share a scale add up to an exact integer; the scaled sums of groups are added in order, so a row's sums do not depend on the
// tile. A thread holds the sums of ROWS_EACH rows and TOKENS_EACH tokens. The next block is loaded while the current one is
// multiplied. The shape for prompts where 8 bits are requested.
//
// x is as norm.wgsl with BYTES writes it: for each block, the 32 elements as signed bytes, then four f32 (d, d · Σq of its
// first and of its second half, d · Σq of both).
const LANES = ${LANES}u;
const BLOCKS = UNITS / 4u;
const X_QUADS = BLOCKS * 3u;
// vec4s from one row of a tile to the next: two and one more, so that neighbouring rows start in different banks.
const STRIDE = 3u;
// Even rows come first, then odd ones: a thread reads pairs of rows, and neighbouring threads neighbouring slots.
var<workgroup> w_tile: array<vec4<u32>, ${R*3}>;
// (d, m) of both halves of a block.
var<workgroup> w_scale: array<vec2<f32>, ${R*2}>;
var<workgroup> x_tile: array<vec4<u32>, ${T*3}>;
var<workgroup> x_scale: array<vec4<f32>, ${T}>;

fn products(a: vec4<u32>, b: vec4<u32>) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (elsewhere(group.y)) { return; }
  let base = group.x * ${R}u;
  let first = group.y * ${T}u;
  let rows = lane % ${R/ROWS_EACH}u;
  let tokens = lane / ${R/ROWS_EACH}u;
  // A lane loads half a block of one row of each.
  let half = lane % 2u;
  let slot = lane / 2u;
  let w_row = weight_row(group.y, base + slot);
  let w_at = slot % 2u * ${R/2}u + slot / 2u;
  var values0 = load_values(w_row, half * 2u);
  var values1 = load_values(w_row, half * 2u + 1u);
  var scale = load_scale(w_row, half * 2u);
  let loads_x = slot < ${T}u;
  let x_row = input_row(first + min(slot, ${T}u - 1u)) * X_QUADS;
  var x_bytes = x[x_row + half];
  var x_sums = x[x_row + 2u];
#for r in 0..ROWS_EACH
#for t in 0..TOKENS_EACH
  var sum${r}_${t} = 0.0;
#end
#end
  for (var block = 0u; block < BLOCKS; block++) {
    workgroupBarrier();
    w_tile[w_at * STRIDE + half] = vec4(quants_of(values0, 0u), quants_of(values1, 0u));
    w_scale[w_at * 2u + half] = scale;
    if (loads_x) {
      x_tile[slot * STRIDE + half] = x_bytes;
      if (half == 0u) { x_scale[slot] = bitcast<vec4<f32>>(x_sums); }
    }
    workgroupBarrier();
    let next = min(block + 1u, BLOCKS - 1u);
    values0 = load_values(w_row, next * 4u + half * 2u);
    values1 = load_values(w_row, next * 4u + half * 2u + 1u);
    scale = load_scale(w_row, next * 4u + half * 2u);
    x_bytes = x[x_row + next * 3u + half];
    x_sums = x[x_row + next * 3u + 2u];
#for p in 0..ROWS_EACH/2
#for o in 0..2
    let at${p*2+o} = rows + ${p*R/ROWS_EACH+o*R/2}u;
    let a${p*2+o} = w_tile[at${p*2+o} * STRIDE];
    let b${p*2+o} = w_tile[at${p*2+o} * STRIDE + 1u];
    let low${p*2+o} = w_scale[at${p*2+o} * 2u];
#if GROUP == 16
    let high${p*2+o} = w_scale[at${p*2+o} * 2u + 1u];
#endif
#end
#end
#for t in 0..TOKENS_EACH
    {
      let at = tokens + ${t*T/TOKENS_EACH}u;
      let c = x_tile[at * STRIDE];
      let d = x_tile[at * STRIDE + 1u];
      let own = x_scale[at];
#for r in 0..ROWS_EACH
#if GROUP == 16
      let first${r} = fma(low${r}.y, own.y, fma(low${r}.x * own.x, f32(products(a${r}, c)), sum${r}_${t}));
      sum${r}_${t} = fma(high${r}.y, own.z, fma(high${r}.x * own.x, f32(products(b${r}, d)), first${r}));
#else
      let whole${r} = f32(products(a${r}, c) + products(b${r}, d));
      sum${r}_${t} = fma(low${r}.y, own.w, fma(low${r}.x * own.x, whole${r}, sum${r}_${t}));
#endif
#end
    }
#end
  }
#for t in 0..TOKENS_EACH
#for p in 0..ROWS_EACH/2
  finish(first + tokens + ${t*T/TOKENS_EACH}u, base + rows * 2u + ${p*R/ROWS_EACH*2}u, vec2(sum${p*2}_${t}, sum${p*2+1}_${t}));
#end
#end
}
