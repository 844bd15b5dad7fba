// Which rows of W, x and y a workgroup takes: its number of tokens' worth of rows is a tile.
#if ROUTED
// W is matrices of ROWS_HERE rows, one of each of EXPERTS_HERE experts from FIRST_EXPERT on. A row of y is a choice: number
// r of the USED experts that row i of the span goes through is choice i USED + r. A tile is of one expert.
#if T == 1
// (expert, weight) of each choice, as moe_route leaves them: a choice is a tile.
@group(0) @binding(5) var<storage, read> tiles: array<u32>;
fn expert_of(tile: u32) -> u32 { return tiles[tile * 2u]; }
fn choice_of(i: u32) -> u32 { return i; }
#else
// The expert of each tile and its T choices, NONE where there are fewer, as moe_group leaves them.
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
// By position, and of the batch: a choice is neither.
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
