// Tokens of each split of a decode row that sees so many: SPLIT, and more, in whole pages, where those would be over
// MOST_SPLITS. They go by the row alone, not by what runs beside it.
fn split_of(tokens: u32) -> u32 {
  return max(${SPLIT}u, (tokens + ${MOST_SPLITS*PAGE_TOKENS}u - 1u) / ${MOST_SPLITS*PAGE_TOKENS}u * ${PAGE_TOKENS}u);
}
