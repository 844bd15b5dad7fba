#import quant/planes

fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let at = SCALES_AT + row * SCALE_WORDS + unit / 32u * 3u;
  let group = unit / 2u % 16u;
  let low = (word(at + group / 8u) >> (4u * (group % 8u))) & 15u;
  let high = (word(at + 2u) >> (2u * group)) & 3u;
  let d = half_of(row, UNITS / 32u * 6u + unit / 32u) * (f32(low | (high << 4u)) - 32.0);
  return vec2(d, -4.0 * d);
}

struct Values { low: TwoBits, high: OneBit }
fn load_values(row: u32, unit: u32) -> Values {
  let at = row * VALUE_WORDS;
  return Values(load_two_bits(at, unit), load_one_bit(at + UNITS / 2u, unit));
}
fn unit_of(values: Values, i: u32, scale: vec2<f32>) -> Unit {
  return scaled(two_bits(values.low, i) | (one_bit(values.high, i) << vec2(2u)), scale);
}
