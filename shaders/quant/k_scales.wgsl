// The scales of Q4_K and Q5_K, 4 words a block (src/quant/k_scales.rs): those of the block's 8 groups come of its halves, of
// one of two words of low bits and of the high bits.
fn scale_from(halves: u32, low_bits: u32, high_bits: u32, group: u32) -> vec2<f32> {
  let pair = unpack2x16float(halves);
  let low = low_bits >> (8u * (group % 4u));
  let high = high_bits >> (4u * group);
  let d = pair.x * f32((low & 15u) | ((high & 3u) << 4u));
  let m = pair.y * f32(((low >> 4u) & 15u) | (((high >> 2u) & 3u) << 4u));
  return vec2(d, -m);
}

#if WIDE
alias Head = vec4<u32>;
fn load_head(row: u32, unit: u32) -> Head { return weights[(SCALES_AT + row * SCALE_WORDS) / 4u + unit / 32u]; }
fn scale_of(head: Head, unit: u32) -> vec2<f32> {
  let group = unit / 4u % 8u;
  return scale_from(head.x, select(head.y, head.z, group >= 4u), head.w, group);
}
#else
fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let at = SCALES_AT + row * SCALE_WORDS + unit / 32u * 4u;
  let group = unit / 4u % 8u;
  return scale_from(weights[at], weights[at + 1u + group / 4u], weights[at + 3u], group);
}
#endif
