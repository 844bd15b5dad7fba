// y = f(W · norm(x) + bias) for the rows of one span: every matrix of the network.
//
// x: [rows, COLS] f32; W: [ROWS_HERE, COLS] in any weight format, rows FIRST.. of a matrix of ROWS; NORM: RMSNorm
// (Zhang & Sennrich, arXiv 1910.07467) folded in: the gains scale x, the reciprocal root scales the sums.
// The sum over COLS runs in one fixed order for a given shape of the kernel, whatever the number of rows.
#import shared/step
#import shared/matrix
#if SHAPE == 0
@group(0) @binding(1) var<storage, read> x: array<f32>;
#else
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read> weights: array<u32>;
// norm gains [COLS] when NORM, then bias [ROWS] when BIAS
@group(0) @binding(3) var<storage, read> consts: array<f32>;
#import linear/epilogue

const COLS = ${COLS}u;
const FIRST = ${FIRST}u;
const ROWS_HERE = ${ROWS_HERE}u;
const EPSILON = ${EPSILON:f32};

fn bias(row: u32) -> f32 {
#if BIAS
#if NORM
  return consts[COLS + row];
#else
  return consts[row];
#endif
#else
  return 0.0;
#endif
}

// Takes the sums of rows `row` and `row + 1` (row even, relative to this part) for row `i` of the span.
fn finish(i: u32, row: u32, sums: vec2<f32>) {
  if (i >= span_rows() || row >= ROWS_HERE) { return; }
  emit(i, FIRST + row, vec2(sums.x + bias(FIRST + row), sums.y + bias(min(FIRST + row + 1u, ${ROWS}u - 1u))), row + 1u < ROWS_HERE);
}

#if SHAPE == 0
#import linear/rows
#endif
#if SHAPE == 1
#import linear/vector
#endif
#if SHAPE == 2
#import linear/tile
#endif
