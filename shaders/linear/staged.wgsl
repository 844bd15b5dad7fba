// Lanes are along COLS in TEAMS of ALONG lanes, each team with EACH rows; neighbouring lanes read neighbouring groups of four
// units. Chunks of x are staged in workgroup memory, where neighbouring lanes read neighbouring quads. While a chunk is staged
// and multiplied, the next one and its weights are being loaded. A chunk is PASSES groups of four units for each lane, or TAKEN
// of the 8 quads of one group. Each lane adds in order along COLS, whatever the chunk is. The shape for decode on a GPU where
// words can be loaded in fours.
const LANES = ${LANES}u;
const ALONG = ${ALONG}u;
const TEAMS = ${TEAMS}u;
const FOURS = UNITS / 4u;
// GRANULE neighbouring lanes take the quads of one group of x and store them ROW_QUADS apart, in different banks.
const GRANULE = ${GRANULE}u;
const ROW_QUADS = ${ALONG+8/GRANULE}u;
// Quads of one token's chunk.
const CHUNK_QUADS = ${PASSES*TAKEN}u * ROW_QUADS;
#if SUBGROUP
#import linear/cluster
// A team's sums are reduced from PIECES pieces, one for each cluster, SPREAD apart by team.
const PIECES = ${ALONG/CLUSTER}u;
const SPREAD = PIECES;
const SQUARES = ${LANES/CLUSTER}u;
#else
const PIECES = 8u;
const SPREAD = ALONG;
const SQUARES = 8u;
#endif
// x; after the last chunk the sums, each vec4 with a team's EACH rows for one token.
var<workgroup> staged: array<vec4<f32>, ${T}u * CHUNK_QUADS>;
#if NORM
// Sums of squares, one component for each of the T tokens.
#if SUBGROUP
var<workgroup> squares: array<vec4<f32>, SQUARES>;
#else
var<workgroup> squares: array<vec4<f32>, LANES>;
#endif
#endif

fn x_quad(row_at: u32, four: u32, quad: u32) -> vec4<f32> {
  // x counts as 0 past the end.
  return select(vec4(0.0), x[row_at + min(four, FOURS - 1u) * 8u + quad], four < FOURS);
}

fn first_unit(four: u32) -> u32 { return min(four, FOURS - 1u) * 4u; }

fn gather(token: u32, row: u32) -> f32 {
  let at = (token * TEAMS + row / ${EACH}u) * SPREAD;
  let part = row % ${EACH}u;
  var all = staged[at][part];
  for (var i = 1u; i < PIECES; i++) { all += staged[at + i][part]; }
  return all;
}

@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  if (elsewhere(group.y)) { return; }
  let team = lane / ALONG;
  let along = lane % ALONG;
  let base = group.x * ${R}u + team * ${EACH}u;
  let first = group.y * ${T}u;
  // Which group of four units of x the lane loads, and which quad of it.
  let taken = lane / GRANULE;
  let quad = lane % GRANULE;
#for t in 0..T
  let x${t} = input_row(first + ${t}u) * (COLS / 4u);
  var squares${t} = 0.0;
#for p in 0..PASSES
#for g in 0..TAKEN/GRANULE
#for m in 0..GRANULE/TEAMS
  var next${t}_${p}_${g}_${m} = x_quad(x${t}, ${p*ALONG+m*LANES/GRANULE}u + taken, ${g*GRANULE}u + quad);
#end
#end
#end
#end
#if NORM
#for p in 0..PASSES
#for g in 0..TAKEN/GRANULE
#for m in 0..GRANULE/TEAMS
  var gain${p}_${g}_${m} = gains(first_unit(${p*ALONG+m*LANES/GRANULE}u + taken) * 2u + ${g*GRANULE}u + quad);
#end
#end
#end
#endif
#for r in 0..EACH
  let row${r} = weight_row(group.y, base + ${r}u);
#for t in 0..T
  var sum${r}_${t} = vec4(0.0);
#end
#for p in 0..PASSES
  var values${r}_${p} = load_values(row${r}, first_unit(${p*ALONG}u + along));
  var scales${r}_${p} = load_packed(row${r}, first_unit(${p*ALONG}u + along));
#end
#end
  for (var start = 0u; start < FOURS; start += ${PASSES*ALONG}u) {
    let ahead = start + ${PASSES*ALONG}u;
#for h in 0..8/TAKEN
    workgroupBarrier();
#for t in 0..T
#for p in 0..PASSES
#for g in 0..TAKEN/GRANULE
#for m in 0..GRANULE/TEAMS
    {
      let at = ${t}u * CHUNK_QUADS + (${p*TAKEN+g*GRANULE}u + quad) * ROW_QUADS + ${m*LANES/GRANULE}u + taken;
      let own = next${t}_${p}_${g}_${m};
#if NORM
      squares${t} = fma(own.w, own.w, fma(own.z, own.z, fma(own.y, own.y, fma(own.x, own.x, squares${t}))));
      staged[at] = own * gain${p}_${g}_${m};
#else
      staged[at] = own;
#endif
    }
#end
#end
#end
#end
    workgroupBarrier();
    {
#if h == LAST
      let four = ahead + taken;
      let from_quad = quad;
#else
      let four = start + taken;
      let from_quad = ${h*TAKEN+TAKEN}u + quad;
#endif
#for p in 0..PASSES
#for g in 0..TAKEN/GRANULE
#for m in 0..GRANULE/TEAMS
#for t in 0..T
      next${t}_${p}_${g}_${m} = x_quad(x${t}, four + ${p*ALONG+m*LANES/GRANULE}u, from_quad + ${g*GRANULE}u);
#end
#if NORM
      gain${p}_${g}_${m} = gains(first_unit(four + ${p*ALONG+m*LANES/GRANULE}u) * 2u + from_quad + ${g*GRANULE}u);
#endif
#end
#end
#end
    }
#for p in 0..PASSES
    if (start + ${p*ALONG}u + along < FOURS) {
#for r in 0..EACH
#for s in 0..4/SHARE
      let scale${r}_${p}_${s} = unpack_scale(scales${r}_${p}, (start + ${p*ALONG}u + along) * 4u + ${s*SHARE}u);
#end
#end
#for u in 0..TAKEN/2
      {
#for r in 0..EACH
        let w${r} = unit_of(values${r}_${p}, ${h*TAKEN/2+u}u, scale${r}_${p}_${h*TAKEN/2/SHARE+u/SHARE});
#end
#for t in 0..T
        let lo${t} = staged[${t}u * CHUNK_QUADS + ${p*TAKEN+u*2}u * ROW_QUADS + along];
        let hi${t} = staged[${t}u * CHUNK_QUADS + ${p*TAKEN+u*2+1}u * ROW_QUADS + along];
#for r in 0..EACH
        sum${r}_${t} = fma(w${r}.hi, hi${t}, fma(w${r}.lo, lo${t}, sum${r}_${t}));
#end
#end
      }
#end
    }
#if h == LAST
#for r in 0..EACH
    values${r}_${p} = load_values(row${r}, first_unit(ahead + ${p*ALONG}u + along));
    scales${r}_${p} = load_packed(row${r}, first_unit(ahead + ${p*ALONG}u + along));
#end
#endif
#end
#end
  }
  workgroupBarrier();
#for t in 0..T
#for r in 0..EACH
  let own${r}_${t} = (sum${r}_${t}.x + sum${r}_${t}.y) + (sum${r}_${t}.z + sum${r}_${t}.w);
#end
#end
#if SUBGROUP
#for t in 0..T
#for r in 0..EACH
  let whole${r}_${t} = cluster_sum(own${r}_${t});
#end
#if NORM
  let whole_squares${t} = cluster_sum(squares${t});
#endif
#end
  if (lane % ${CLUSTER}u == 0u) {
    let cluster = lane / ${CLUSTER}u;
#for t in 0..T
#for r in 0..EACH
    staged[${t}u * TEAMS * SPREAD + cluster][${r}u] = whole${r}_${t};
#end
#if NORM
    squares[cluster][${t}u] = whole_squares${t};
#endif
#end
  }
#else
#for t in 0..T
#for r in 0..EACH
  staged[${t}u * LANES + lane][${r}u] = own${r}_${t};
#end
#if NORM
  squares[lane][${t}u] = squares${t};
#endif
#end
  workgroupBarrier();
  // Adds every PIECES-th lane's sums into one piece. No other lane touches the quads of a piece.
  for (var i = lane; i < ${T}u * TEAMS * PIECES; i += LANES) {
    let at = i / PIECES * SPREAD + i % PIECES;
    var piece = staged[at];
    for (var j = PIECES; j < SPREAD; j += PIECES) { piece += staged[at + j]; }
    staged[at] = piece;
  }
#if NORM
  if (lane < SQUARES) {
    var piece = squares[lane];
    for (var j = lane + SQUARES; j < LANES; j += SQUARES) { piece += squares[j]; }
    squares[lane] = piece;
  }
#endif
#endif
  workgroupBarrier();
  if (lane < ${T*R/2}u) {
    let token = lane / ${R/2}u;
    let row = lane % ${R/2}u * 2u;
    let sums = vec2(gather(token, row), gather(token, row + 1u));
#if NORM
    var all = squares[0][token];
    for (var i = 1u; i < SQUARES; i++) { all += squares[i][token]; }
    let factor = inverseSqrt(all / f32(COLS) + EPSILON);
#else
    let factor = 1.0;
#endif
    finish(first + token, group.x * ${R}u + row, sums * factor);
  }
}
