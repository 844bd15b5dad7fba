#import quant/planes

fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  return unpack2x16float(weights[SCALES_AT + row * SCALE_WORDS + unit / 4u]);
}

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = row * VALUE_WORDS;
  return scaled(four_bits(at, unit) | (one_bit(at + UNITS, unit) << vec2(4u)), scale);
}
