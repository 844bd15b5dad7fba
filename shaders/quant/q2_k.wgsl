#import quant/planes

fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let at = SCALES_AT + row * SCALE_WORDS + unit / 32u * 5u;
  let group = unit / 2u % 16u;
  let byte = word(at + group / 4u) >> (8u * (group % 4u));
  let halves = unpack2x16float(word(at + 4u));
  return vec2(halves.x * f32(byte & 15u), -(halves.y * f32((byte >> 4u) & 15u)));
}

alias Values = TwoBits;
fn load_values(row: u32, unit: u32) -> Values { return load_two_bits(row * VALUE_WORDS, unit); }
fn unit_of(values: Values, i: u32, scale: vec2<f32>) -> Unit { return scaled(two_bits(values, i), scale); }
