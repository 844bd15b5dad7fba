#import quant/planes

fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let at = SCALES_AT + row * SCALE_WORDS + unit / 32u * 3u;
  let group = unit / 2u % 16u;
  let low = (weights[at + group / 8u] >> (4u * (group % 8u))) & 15u;
  let high = (weights[at + 2u] >> (2u * group)) & 3u;
  let d = half_of(row, UNITS / 32u * 6u + unit / 32u) * (f32(low | (high << 4u)) - 32.0);
  return vec2(d, -4.0 * d);
}

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = row * VALUE_WORDS;
  return scaled(two_bits(at, unit) | (one_bit(at + UNITS / 2u, unit) << vec2(2u)), scale);
}
