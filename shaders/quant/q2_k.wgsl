#import quant/affine

alias Packed = vec2<u32>;
fn load_packed(row: u32, unit: u32) -> Packed {
  let first = unit / 32u * 5u;
  return vec2(word(scale_at(row, first + unit / 8u % 4u)), word(scale_at(row, first + 4u)));
}
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> {
  let byte = packed.x >> (8u * (unit / 2u % 4u));
  let halves = unpack2x16float(packed.y);
  return vec2(halves.x * f32(byte & 15u), -(halves.y * f32((byte >> 4u) & 15u)));
}

alias Values = TwoBits;
fn load_values(row: u32, unit: u32) -> Values { return load_two_bits(row, 0u, unit); }
fn quants_of(values: Values, i: u32) -> vec2<u32> { return two_bits(values, i); }
