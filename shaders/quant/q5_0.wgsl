#import quant/planes

fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let d = half_of(row, unit / 4u);
  return vec2(d, -16.0 * d);
}

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = row * VALUE_WORDS;
  return scaled(four_bits(at, unit) | (one_bit(at + UNITS, unit) << vec2(4u)), scale);
}
