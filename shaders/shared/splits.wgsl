// Tokens in each split of a decode row that attends to `tokens` tokens: SPLIT, or a larger number of whole pages if there would
// be more than MOST_SPLITS splits. Depends on the row alone, not on the rest of the batch.
fn split_of(tokens: u32) -> u32 {
  return max(${SPLIT}u, (tokens + ${MOST_SPLITS*PAGE_TOKENS}u - 1u) / ${MOST_SPLITS*PAGE_TOKENS}u * ${PAGE_TOKENS}u);
}
