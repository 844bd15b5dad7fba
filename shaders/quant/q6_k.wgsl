#import quant/planes

fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let group = unit / 2u;
  let bytes = bitcast<i32>(weights[SCALES_AT + row * SCALE_WORDS + group / 4u]);
  let d = half_of(row, UNITS / 4u + unit / 32u) * f32(extractBits(bytes, 8u * (group % 4u), 8u));
  return vec2(d, -32.0 * d);
}

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = row * VALUE_WORDS;
  return scaled(four_bits(at, unit) | (two_bits(at + UNITS, unit) << vec2(4u)), scale);
}
