#import quant/planes
#import quant/k_scales

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  return scaled(four_bits(row * VALUE_WORDS, unit), scale);
}
