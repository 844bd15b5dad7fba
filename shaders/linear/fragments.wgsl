// Tiles of R weight rows and T tokens in f16, STEP units of columns at a time. Weights are dequantised into workgroup memory,
// from which subgroups multiply cooperative matrices of FRAGMENT × FRAGMENT × FRAGMENT with sums in f32. A tile has PARTS
// parts, ACROSS of them along the rows; a part has TOKEN_FRAGMENTS × ROW_FRAGMENTS matrices of sums. Columns are added in
// order, so a row's sums do not depend on the tile. The shape for prompts on GPUs with such matrices.
//
// EMULATED, for adapters without them: lane l of a subgroup of EMULATED lanes keeps elements l + EMULATED i of each matrix of
// sums, and reads its factors from the workgroup memory that the matrices would be loaded from.
//
// A matrix must begin at a multiple of 16 bytes (Vulkan, valid usage of OpCooperativeMatrixLoadKHR), and drivers pack workgroup
// variables by the alignment of their types. So the size of each is a multiple of 16 bytes.
#import shared/halves
const LANES = ${LANES}u;
const QUADS = ${STEP*2}u;
const SIDE = ${FRAGMENT}u;
const PARTS = ${PARTS}u;
// Elements from one row of a tile to the next: 16 bytes of padding, so that neighbouring rows start in different banks.
const STRIDE = ${STEP*8+8}u;
var<workgroup> w_tile: array<f16, ${R*STEP*8+R*8}>;
var<workgroup> x_tile: array<f16, ${T*STEP*8+T*8}>;
// One matrix of sums of each part, [token][row].
var<workgroup> staged: array<f32, ${PARTS*FRAGMENT*FRAGMENT}>;

// Where a part begins in its tile.
fn part_tokens(part: u32) -> u32 { return part / ${ACROSS}u * ${TOKEN_FRAGMENTS*FRAGMENT}u; }
fn part_rows(part: u32) -> u32 { return part % ${ACROSS}u * ${ROW_FRAGMENTS*FRAGMENT}u; }

fn put_w(at: u32, v: vec4<f16>) {
  w_tile[at] = v.x;
  w_tile[at + 1u] = v.y;
  w_tile[at + 2u] = v.z;
  w_tile[at + 3u] = v.w;
}
fn put_x(at: u32, v: vec4<f16>) {
  x_tile[at] = v.x;
  x_tile[at + 1u] = v.y;
  x_tile[at + 2u] = v.z;
  x_tile[at + 3u] = v.w;
}

// Passes the staged matrices of parts `part` .. `end` to the epilogue; each begins at `token` and `row` of its part.
fn hand_over(part: u32, end: u32, token: u32, row: u32, lane: u32) {
  workgroupBarrier();
  for (var i = part * (SIDE * SIDE / 2u) + lane; i < end * (SIDE * SIDE / 2u); i += LANES) {
    let own = i / (SIDE * SIDE / 2u);
    let sums = vec2(staged[i * 2u], staged[i * 2u + 1u]);
    finish(token + part_tokens(own) + i / (SIDE / 2u) % SIDE, row + part_rows(own) + i % (SIDE / 2u) * 2u, sums);
  }
  workgroupBarrier();
}

#if EMULATED
const SUBGROUP = ${EMULATED}u;
const OWN = SIDE * SIDE / SUBGROUP;
const MATRICES = ${TOKEN_FRAGMENTS*ROW_FRAGMENTS}u;
alias Sums = array<f32, OWN * MATRICES>;
// Adds the products of one step's columns to a part's matrices of sums.
fn multiply(tokens: u32, rows: u32, lane: u32, sums: ptr<function, Sums>) {
  // A bound unknown at compile time keeps the compiler from unrolling the loop.
  let columns = min(QUADS * 4u, arrayLength(&step) + QUADS * 4u);
  for (var i = 0u; i < OWN * MATRICES; i++) {
    let matrix = i / OWN;
    let element = lane % SUBGROUP + SUBGROUP * (i % OWN);
    let x_row = (tokens + matrix / ${ROW_FRAGMENTS}u * SIDE + element / SIDE) * STRIDE;
    let w_row = (rows + matrix % ${ROW_FRAGMENTS}u * SIDE + element % SIDE) * STRIDE;
    var sum = (*sums)[i];
    for (var k = 0u; k < columns; k++) { sum = fma(f32(x_tile[x_row + k]), f32(w_tile[w_row + k]), sum); }
    (*sums)[i] = sum;
  }
}
#else
// The number of subgroups; 0 if this buffer does not hold the tile's expert.
var<workgroup> subgroups: vec4<u32>;
#endif

@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) place: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
#if !EMULATED
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroup_count: u32,
#endif
) {
  // Neighbouring workgroups share rows of W.
  let group = place.yx;
#if EMULATED
  let worker = lane / SUBGROUP;
  let workers = LANES / SUBGROUP;
  if (elsewhere(group.y)) { return; }
#else
  // Via workgroup memory, so that compilers see that the value is uniform.
  if (lane == 0u) { subgroups = vec4(select(subgroup_count, 0u, elsewhere(group.y))); }
  let worker = subgroup;
  let workers = workgroupUniformLoad(&subgroups).x;
  if (workers == 0u) { return; }
#endif
  let base = group.x * ${R}u;
  let first = group.y * ${T}u;
  let unit = lane % ${STEP}u;
  let quad = lane % QUADS;
#for j in 0..R*STEP/LANES
  let w_slot${j} = lane / ${STEP}u + ${j*LANES/STEP}u;
  let w_row${j} = weight_row(group.y, base + w_slot${j});
#end
#for j in 0..T*STEP*2/LANES
  let x_slot${j} = lane / QUADS + ${j*LANES/STEP/2}u;
  let x_row${j} = input_row(first + x_slot${j}) * (COLS / 4u);
#end
  // With subgroups of 32 lanes each has one part. Larger subgroups have several in turn; the surplus of smaller ones repeats
  // the last.
  for (var turn = 0u; turn < PARTS; turn += workers) {
    let part = min(turn + worker, PARTS - 1u);
    let tokens = part_tokens(part);
    let rows = part_rows(part);
#if EMULATED
    var sums = Sums();
#else
#for m in 0..TOKEN_FRAGMENTS
#for n in 0..ROW_FRAGMENTS
    var sums${m}_${n} = coop_mat${FRAGMENT}x${FRAGMENT}<f32, C>();
#end
#end
#endif
#for j in 0..R*STEP/LANES
    var values${j} = load_values(w_row${j}, min(unit, UNITS - 1u));
    var scale${j} = load_scale(w_row${j}, min(unit, UNITS - 1u));
#end
#for j in 0..T*STEP*2/LANES
    var x${j} = x[x_row${j} + min(quad, UNITS * 2u - 1u)];
#end
    for (var start = 0u; start < UNITS; start += ${STEP}u) {
      workgroupBarrier();
#for j in 0..R*STEP/LANES
      {
        var w = Unit(vec4(0.0), vec4(0.0));
        if (start + unit < UNITS) { w = unit_of(values${j}, 0u, scale${j}); }
        put_w(w_slot${j} * STRIDE + unit * 8u, halves(w.lo));
        put_w(w_slot${j} * STRIDE + unit * 8u + 4u, halves(w.hi));
      }
#end
#for j in 0..T*STEP*2/LANES
      if (start * 2u + quad >= UNITS * 2u) { x${j} = Quad(); }
#if X_ROUNDED
      put_x(x_slot${j} * STRIDE + quad * 4u, x${j});
#else
      put_x(x_slot${j} * STRIDE + quad * 4u, halves(x${j}));
#endif
#end
      workgroupBarrier();
      let next_unit = min(start + ${STEP}u + unit, UNITS - 1u);
      let next_quad = min(start * 2u + QUADS + quad, UNITS * 2u - 1u);
#for j in 0..R*STEP/LANES
      values${j} = load_values(w_row${j}, next_unit);
      scale${j} = load_scale(w_row${j}, next_unit);
#end
#for j in 0..T*STEP*2/LANES
      x${j} = x[x_row${j} + next_quad];
#end
#if EMULATED
      multiply(tokens, rows, lane, &sums);
#else
#for k in 0..STEP*8/FRAGMENT
      {
        let column = ${k*FRAGMENT}u;
#for n in 0..ROW_FRAGMENTS
        let w${n} = coopLoad<coop_mat${FRAGMENT}x${FRAGMENT}<f16, B>>(&w_tile[(rows + ${n*FRAGMENT}u) * STRIDE + column], STRIDE);
#end
#for m in 0..TOKEN_FRAGMENTS
        let x_fragment${m} = coopLoadT<coop_mat${FRAGMENT}x${FRAGMENT}<f16, A>>(&x_tile[(tokens + ${m*FRAGMENT}u) * STRIDE + column], STRIDE);
#for n in 0..ROW_FRAGMENTS
        sums${m}_${n} = coopMultiplyAdd(x_fragment${m}, w${n}, sums${m}_${n});
#end
#end
      }
#end
#endif
    }
#if EMULATED
    for (var matrix = 0u; matrix < MATRICES; matrix++) {
      for (var i = 0u; i < OWN; i++) { staged[part * (SIDE * SIDE) + lane % SUBGROUP + SUBGROUP * i] = sums[matrix * OWN + i]; }
      hand_over(turn, min(turn + workers, PARTS), first + matrix / ${ROW_FRAGMENTS}u * SIDE, base + matrix % ${ROW_FRAGMENTS}u * SIDE, lane);
    }
#else
#for m in 0..TOKEN_FRAGMENTS
#for n in 0..ROW_FRAGMENTS
    coopStoreT(sums${m}_${n}, &staged[part * (SIDE * SIDE)], SIDE);
    hand_over(turn, min(turn + workers, PARTS), first + ${m*FRAGMENT}u, base + ${n*FRAGMENT}u, lane);
#end
#end
#endif
  }
}
