// The scales of Q4_K and Q5_K, 4 words a block (src/quant/k_scales.rs).
fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let at = SCALES_AT + row * SCALE_WORDS + unit / 32u * 4u;
  let group = unit / 4u % 8u;
  let halves = unpack2x16float(weights[at]);
  let low = weights[at + 1u + group / 4u] >> (8u * (group % 4u));
  let high = weights[at + 3u] >> (4u * group);
  let d = halves.x * f32((low & 15u) | ((high & 3u) << 4u));
  let m = halves.y * f32(((low >> 4u) & 15u) | (((high >> 2u) & 3u) << 4u));
  return vec2(d, -m);
}
