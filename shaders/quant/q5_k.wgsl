#import quant/planes
#import quant/k_scales

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = row * VALUE_WORDS;
  return scaled(four_bits(at, unit) | (one_bit(at + UNITS, unit) << vec2(4u)), scale);
}
