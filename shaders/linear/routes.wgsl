// Which rows of W, x and y a workgroup processes. Its T tokens are a tile.
#if ROUTED
// W holds matrices of ROWS_HERE rows, one for each of EXPERTS_HERE experts from FIRST_EXPERT. A row of y is a choice: choice i
// USED + r is the r-th of the USED experts of row i of the span. All choices of a tile have the same expert.
#if T == 1
// (expert, weight) of each choice, as moe_route writes them; each choice is a tile.
@group(0) @binding(5) var<storage, read> tiles: array<u32>;
fn expert_of(tile: u32) -> u32 { return tiles[tile * 2u]; }
fn choice_of(i: u32) -> u32 { return i; }
#else
// The expert of each tile and its T choices, padded with NONE, as moe_group writes them.
@group(0) @binding(5) var<storage, read> tiles: array<u32>;
fn expert_of(tile: u32) -> u32 { return tiles[tile * ${T+1}u]; }
fn choice_of(i: u32) -> u32 { return tiles[i / ${T}u * ${T+1}u + 1u + i % ${T}u]; }
#endif
const NONE = 0xffffffffu;
const FIRST_EXPERT = ${FIRST/ROWS}u;
const EXPERTS_HERE = ${ROWS_HERE/ROWS}u;
fn elsewhere(tile: u32) -> bool { return expert_of(tile) - FIRST_EXPERT >= EXPERTS_HERE; }
fn weight_row(tile: u32, row: u32) -> u32 {
  return (expert_of(tile) - FIRST_EXPERT) * ROWS_HERE + min(row, ROWS_HERE - 1u);
}
fn input_row(i: u32) -> u32 {
  let choice = choice_of(i);
  let present = select(choice, 0u, choice == NONE);
#if FROM_TOKENS
  return batch_row(present / ${USED}u);
#else
  return present;
#endif
}
fn absent(i: u32) -> bool { return choice_of(i) == NONE; }
// Rows of y are choices, neither rows of the span nor of the batch.
fn span_place(i: u32) -> u32 { return choice_of(i); }
fn batch_place(i: u32) -> u32 { return choice_of(i); }
#else
fn elsewhere(tile: u32) -> bool { return false; }
fn weight_row(tile: u32, row: u32) -> u32 { return min(row, ROWS_HERE - 1u); }
fn input_row(i: u32) -> u32 { return batch_row(min(i, span_rows() - 1u)); }
fn absent(i: u32) -> bool { return i >= span_rows(); }
fn span_place(i: u32) -> u32 { return i; }
fn batch_place(i: u32) -> u32 { return batch_row(i); }
#endif
