// A gated short convolution (LFM2; transformers' modeling_lfm2.py, Lfm2ShortConv): with B, C and X the thirds of a row of x, y
// = C · sum over j of taps[j] (B X)[position - j]. The products of the TAPS - 1 tokens before a run come from earlier rows of
// the same sequence, and before those from the page of the token before them. A page keeps the products of the last TAPS - 1
// tokens up to the last one written to it, each at position % (TAPS - 1). One invocation for each run and four channels. A run
// is the rows of one sequence in one page (src/engine/batch.rs), so no other invocation writes what it reads.
#import shared/step
// [span rows, 3, COLS]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
// [KEPT + 1, COLS]
@group(0) @binding(2) var<storage, read> taps: array<vec4<f32>>;
// [batch rows, COLS]
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
// [pages, KEPT, COLS]
@group(0) @binding(4) var<storage, read_write> pages: array<vec4<f32>>;

const QUADS = ${COLS/4}u;
const KEPT = ${KEPT}u;
const PAGE = 16u;

fn product(row: u32, quad: u32) -> vec4<f32> {
  let at = row * 3u * QUADS + quad;
  return x[at] * x[at + 2u * QUADS];
}
fn place(page: u32, position: u32, quad: u32) -> u32 { return (page * KEPT + position % KEPT) * QUADS + quad; }

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let quad = group.x * ${LANES}u + lane;
  if (quad >= QUADS) { return; }
  let run = step[8] + group.y * 5u;
  let first = step[run];
  let rows = step[run + 1u];
  let position = step[run + 2u];
  // Rows of the sequence before the run, and the page of the token before those.
  let before = step[run + 3u];
  let page_before = step[run + 4u];
  let page = slot_of(batch_row(first)) / PAGE;

  // The products of the preceding tokens, the nearest first.
  var past: array<vec4<f32>, ${KEPT}>;
  for (var j = 0u; j < KEPT; j++) {
    past[j] = vec4(0.0);
    if (j < before) {
      past[j] = product(first - j - 1u, quad);
    } else if (j < position) {
      past[j] = pages[place(page_before, position - j - 1u, quad)];
    }
  }
  for (var row = first; row < first + rows; row++) {
    let now = product(row, quad);
    var sum = taps[quad] * now;
    for (var j = 0u; j < KEPT; j++) { sum = fma(taps[(j + 1u) * QUADS + quad], past[j], sum); }
    y[batch_row(row) * QUADS + quad] = x[(row * 3u + 1u) * QUADS + quad] * sum;
    for (var j = KEPT - 1u; j > 0u; j--) { past[j] = past[j - 1u]; }
    past[0] = now;
  }
  let end = position + rows;
  for (var j = 0u; j < min(KEPT, end); j++) {
    // Products that the page has already are not rewritten, because the next run may be reading them.
    if (j < before + rows || page != page_before) { pages[place(page, end - j - 1u, quad)] = past[j]; }
  }
}
