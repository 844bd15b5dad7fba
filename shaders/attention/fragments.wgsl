// Tiles of ROWS query rows (T rows of each query head of a KV head, padded) and TOKENS tokens in f16, multiplied by cooperative
// matrices of FRAGMENT × FRAGMENT × FRAGMENT with sums in f32. The first pass over the tokens finds each row's highest score.
// The second rounds weights to f16 and multiplies values, so no sum has to be rescaled; the softmax's sum is that of the
// rounded weights. TEAM lanes share a row and take its tokens in turn. The shape for prompts on GPUs with such matrices.
//
// Each of OUTPUT_PARTS parts has PART_ROWS × PART_DIMS matrices of the output. EMULATED and the sizes of workgroup variables:
// see linear/fragments.
#import shared/halves
const LANES = ${LANES}u;
const SIDE = ${FRAGMENT}u;
const ROWS = ${ROWS}u;
const TOKENS = ${TOKENS}u;
const TEAM = LANES / ROWS;
#if EMULATED
const SUBGROUP = ${EMULATED}u;
#endif
const PARTS = ${OUTPUT_PARTS}u;
// Row strides: 16 bytes of padding, so that neighbouring rows start in different banks.
const DIM_STRIDE = HEAD_DIM + 8u;
const TOKEN_STRIDE = TOKENS + 8u;
const ROW_STRIDE = ROWS + 8u;
// [row][dim]
var<workgroup> queries: array<f16, ROWS * DIM_STRIDE>;
// [dim][token]; later the weights, [token][row]
var<workgroup> keys: array<f16, ${KEYS}>;
// [token][dim]
var<workgroup> values: array<f16, TOKENS * DIM_STRIDE>;
// [token][row]; at the end one matrix of each part, [row][dim]
var<workgroup> scores: array<f32, ${SCORES}>;
// Indexed by team and row.
var<workgroup> tops: array<f32, LANES>;
var<workgroup> sums: array<f32, LANES>;
var<workgroup> bounds: vec4<u32>;

// Offsets of the matrices.
fn query_at(m: u32, k: u32) -> u32 { return m * SIDE * DIM_STRIDE + k * SIDE; }
fn key_at(k: u32, n: u32) -> u32 { return k * SIDE * TOKEN_STRIDE + n * SIDE; }
fn score_at(m: u32, n: u32) -> u32 { return n * SIDE * ROWS + m * SIDE; }
fn weight_at(m: u32, k: u32) -> u32 { return k * SIDE * ROW_STRIDE + m * SIDE; }
fn value_at(k: u32, n: u32) -> u32 { return k * SIDE * DIM_STRIDE + n * SIDE; }

fn page_of(tile: Tile, token: u32) -> u32 { return step[tile.table + token / PAGE]; }

// Offset of the keys of a lane's token; lanes after the end load the last token again.
fn keys_from(tile: Tile, head: u32, base: u32, end: u32, lane: u32) -> u32 {
  let token = min(base + lane % TOKENS, end - 1u);
  return k_word(page_of(tile, token), head, 0u) + token % PAGE;
}
// Index of the word of keys, or of values in the tile, that a lane loads in round `i`. Lanes without one load the last again.
fn key_word(lane: u32, i: u32) -> u32 { return min(lane / TOKENS + i * (LANES / TOKENS), DIM_WORDS - 1u); }
fn value_word(lane: u32, i: u32) -> u32 { return min(lane + i * LANES, TOKENS * DIM_WORDS - 1u); }

fn value_of(tile: Tile, head: u32, base: u32, end: u32, at: u32) -> Loaded {
  let token = min(base + at / DIM_WORDS, end - 1u);
  return load_value(v_word(page_of(tile, token), head, token % PAGE), at % DIM_WORDS);
}

fn put_key(lane: u32, word: u32, loaded: Loaded) {
  let k = dims_of(loaded, word);
#for d in 0..WIDTH
  keys[(word * WIDTH + ${d}u) * TOKEN_STRIDE + lane % TOKENS] = f16(k[${d}]);
#end
}

fn put_value(at: u32, loaded: Loaded) {
  let v = dims_of(loaded, at % DIM_WORDS);
#for d in 0..WIDTH
  values[at / DIM_WORDS * DIM_STRIDE + at % DIM_WORDS * WIDTH + ${d}u] = f16(v[${d}]);
#end
}

// A token's score from its product; LOWEST if the mask hides the token.
fn score_of(product: f32, token: u32, position: u32, end: u32) -> f32 {
#if CAPPED
  let score = capped(vec4(product)).x;
#else
  let score = product;
#endif
#if WINDOW
  return select(LOWEST, score, token <= min(position, end - 1u) && token + ${WINDOW}u > position);
#else
  return select(LOWEST, score, token <= min(position, end - 1u));
#endif
}

const SCORE_MATRICES = ${ROWS*TOKENS/FRAGMENT/FRAGMENT}u;
fn multiply_scores(worker: u32, workers: u32, lane: u32) {
  for (var turn = 0u; turn < SCORE_MATRICES; turn += workers) {
    // Workers without a matrix do the last one again.
    let matrix = min(turn + worker, SCORE_MATRICES - 1u);
    let m = matrix % ${ROWS/FRAGMENT}u;
    let n = matrix / ${ROWS/FRAGMENT}u;
#if EMULATED
    for (var e = lane % SUBGROUP; e < SIDE * SIDE; e += SUBGROUP) {
      var sum = 0.0;
      for (var d = 0u; d < HEAD_DIM; d++) {
        let q = queries[query_at(m, d / SIDE) + e % SIDE * DIM_STRIDE + d % SIDE];
        sum = fma(f32(q), f32(keys[key_at(d / SIDE, n) + d % SIDE * TOKEN_STRIDE + e / SIDE]), sum);
      }
      scores[score_at(m, n) + e / SIDE * ROWS + e % SIDE] = sum;
    }
#else
    var product = coop_mat${FRAGMENT}x${FRAGMENT}<f32, C>();
#for k in 0..HEAD_DIM/FRAGMENT
    {
      let q = coopLoadT<coop_mat${FRAGMENT}x${FRAGMENT}<f16, A>>(&queries[query_at(m, ${k}u)], DIM_STRIDE);
      let own = coopLoadT<coop_mat${FRAGMENT}x${FRAGMENT}<f16, B>>(&keys[key_at(${k}u, n)], TOKEN_STRIDE);
      product = coopMultiplyAdd(q, own, product);
    }
#end
    coopStore(product, &scores[score_at(m, n)], ROWS);
#endif
  }
}

// Writes the staged matrix (m, n) of parts `part` .. `parts_end` to the output, divided by the rows' sums.
fn hand_over(tile: Tile, head: u32, part: u32, parts_end: u32, m: u32, n: u32, lane: u32) {
  workgroupBarrier();
  for (var i = part * (SIDE * SIDE) + lane; i < parts_end * (SIDE * SIDE); i += LANES) {
    let own = i / (SIDE * SIDE);
    let row = (own / ${ACROSS}u * ${PART_ROWS}u + m) * SIDE + i / SIDE % SIDE;
    let dim = (own % ${ACROSS}u * ${PART_DIMS}u + n) * SIDE + i % SIDE;
    if (row < ${T*GROUP}u && row / GROUP < tile.count) {
      let at = ((tile.first + row / GROUP) * HEADS + head * GROUP + row % GROUP) * HEAD_DIM + dim;
      out[at] = scores[i] / sums[row];
    }
  }
  workgroupBarrier();
}

@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
#if !EMULATED
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) subgroups: u32,
#endif
) {
#if EMULATED
  let worker = lane / SUBGROUP;
  let subgroups = LANES / SUBGROUP;
#else
  let worker = subgroup;
#endif
  let head = group.x;
  let tile = tile_of(group.y);
  let range = range_of(tile, 0u, TOKENS);
  // Via workgroup memory, so that compilers see that the values are uniform.
  if (lane == 0u) { bounds = vec4(range.start, range.end, subgroups, 0u); }
  let shared_bounds = workgroupUniformLoad(&bounds);
  let start = shared_bounds.x;
  let end = shared_bounds.y;
  let workers = shared_bounds.z;
  let row = lane % ROWS;
  let mate = lane / ROWS;
  let position = tile.position + row / GROUP;
  for (var i = lane; i < ROWS * PAIRS; i += LANES) {
    let r = i / PAIRS;
    let pair = i % PAIRS;
    let at = ((tile.first + min(r / GROUP, tile.count - 1u)) * HEADS + head * GROUP + r % GROUP) * HEAD_DIM + pair * 2u;
    let q = halves(vec4(q[at], q[at + 1u], 0.0, 0.0) * SCALE);
    queries[r * DIM_STRIDE + pair * 2u] = q.x;
    queries[r * DIM_STRIDE + pair * 2u + 1u] = q.y;
  }

  var top = LOWEST;
  var from_keys = keys_from(tile, head, start, end, lane);
#for i in 0..LOADS
  var key${i} = load_key(from_keys, key_word(lane, ${i}u));
#end
  for (var base = start; base < end; base += TOKENS) {
#for i in 0..LOADS
    put_key(lane, key_word(lane, ${i}u), key${i});
#end
    workgroupBarrier();
    // Load the next keys while these are multiplied.
    from_keys = keys_from(tile, head, base + TOKENS, end, lane);
#for i in 0..LOADS
    key${i} = load_key(from_keys, key_word(lane, ${i}u));
#end
    multiply_scores(worker, workers, lane);
    workgroupBarrier();
#for j in 0..SCORES_OF_A_LANE
    top = max(top, score_of(scores[(mate + ${j}u * TEAM) * ROWS + row], base + mate + ${j}u * TEAM, position, end));
#end
  }
  tops[lane] = top;
  workgroupBarrier();
  for (var j = 0u; j < TEAM; j++) { top = max(top, tops[j * ROWS + row]); }

  // With subgroups of 32 lanes each has one part. Larger subgroups have several in turn; the surplus of smaller ones repeats
  // the last.
  for (var turn = 0u; turn < PARTS; turn += workers) {
    let part = min(turn + worker, PARTS - 1u);
    let first_row = part / ${ACROSS}u * ${PART_ROWS}u;
    let first_dim = part % ${ACROSS}u * ${PART_DIMS}u;
#if EMULATED
    var output = array<f32, ${PART_ROWS*PART_DIMS*FRAGMENT*FRAGMENT/EMULATED}>();
#else
#for m in 0..PART_ROWS
#for n in 0..PART_DIMS
    var output${m}_${n} = coop_mat${FRAGMENT}x${FRAGMENT}<f32, C>();
#end
#end
#endif
    var sum = 0.0;
    from_keys = keys_from(tile, head, start, end, lane);
#for i in 0..LOADS
    key${i} = load_key(from_keys, key_word(lane, ${i}u));
    var value${i} = value_of(tile, head, start, end, value_word(lane, ${i}u));
#end
    for (var base = start; base < end; base += TOKENS) {
      workgroupBarrier();
#for i in 0..LOADS
      put_key(lane, key_word(lane, ${i}u), key${i});
      put_value(value_word(lane, ${i}u), value${i});
#end
      workgroupBarrier();
      from_keys = keys_from(tile, head, base + TOKENS, end, lane);
#for i in 0..LOADS
      key${i} = load_key(from_keys, key_word(lane, ${i}u));
      value${i} = value_of(tile, head, base + TOKENS, end, value_word(lane, ${i}u));
#end
      multiply_scores(worker, workers, lane);
      workgroupBarrier();
      // Read all scores first, so that the loads overlap.
#for j in 0..SCORES_OF_A_LANE
      let score${j} = score_of(scores[(mate + ${j}u * TEAM) * ROWS + row], base + mate + ${j}u * TEAM, position, end);
#end
#for j in 0..SCORES_OF_A_LANE
      let weight${j} = f16(select(0.0, exp(score${j} - top), score${j} > LOWEST));
      keys[(mate + ${j}u * TEAM) * ROW_STRIDE + row] = weight${j};
      sum += f32(weight${j});
#end
      workgroupBarrier();
#if EMULATED
      for (var i = 0u; i < ${PART_ROWS*PART_DIMS*FRAGMENT*FRAGMENT/EMULATED}u; i++) {
        let matrix = i * SUBGROUP / (SIDE * SIDE);
        let e = (i * SUBGROUP + lane % SUBGROUP) % (SIDE * SIDE);
        var product = output[i];
        for (var t = 0u; t < TOKENS; t++) {
          let weight = keys[weight_at(first_row + matrix / ${PART_DIMS}u, t / SIDE) + t % SIDE * ROW_STRIDE + e / SIDE];
          let value = values[value_at(t / SIDE, first_dim + matrix % ${PART_DIMS}u) + t % SIDE * DIM_STRIDE + e % SIDE];
          product = fma(f32(weight), f32(value), product);
        }
        output[i] = product;
      }
#else
#for k in 0..TOKENS/FRAGMENT
      {
#for n in 0..PART_DIMS
        let v${n} = coopLoadT<coop_mat${FRAGMENT}x${FRAGMENT}<f16, B>>(&values[value_at(${k}u, first_dim + ${n}u)], DIM_STRIDE);
#end
#for m in 0..PART_ROWS
        let w${m} = coopLoad<coop_mat${FRAGMENT}x${FRAGMENT}<f16, A>>(&keys[weight_at(first_row + ${m}u, ${k}u)], ROW_STRIDE);
#for n in 0..PART_DIMS
        output${m}_${n} = coopMultiplyAdd(w${m}, v${n}, output${m}_${n});
#end
#end
      }
#end
#endif
    }
    sums[lane] = sum;
    workgroupBarrier();
    if (lane < ROWS) {
      for (var j = 1u; j < TEAM; j++) { sum += sums[j * ROWS + row]; }
      sums[lane] = sum;
    }
    workgroupBarrier();
#if EMULATED
    for (var matrix = 0u; matrix < ${PART_ROWS*PART_DIMS}u; matrix++) {
      for (var e = lane % SUBGROUP; e < SIDE * SIDE; e += SUBGROUP) {
        scores[part * (SIDE * SIDE) + e] = output[(matrix * (SIDE * SIDE) + e) / SUBGROUP];
      }
      hand_over(tile, head, turn, min(turn + workers, PARTS), matrix / ${PART_DIMS}u, matrix % ${PART_DIMS}u, lane);
    }
#else
#for m in 0..PART_ROWS
#for n in 0..PART_DIMS
    coopStoreT(output${m}_${n}, &scores[part * (SIDE * SIDE)], SIDE);
    hand_over(tile, head, turn, min(turn + workers, PARTS), ${m}u, ${n}u, lane);
#end
#end
#endif
  }
}
