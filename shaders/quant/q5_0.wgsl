#import quant/affine

alias Packed = u32;
fn load_packed(row: u32, unit: u32) -> Packed { return load_half_pair(row, unit / 4u); }
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> {
  let d = half_of(packed, unit / 4u);
  return vec2(d, -16.0 * d);
}

struct Values { low: FourBits, high: OneBit }
fn load_values(row: u32, unit: u32) -> Values {
  return Values(load_four_bits(row, 0u, unit), load_one_bit(row, UNITS, unit));
}
fn quants_of(values: Values, i: u32) -> vec2<u32> {
  return four_bits(values.low, i) | (one_bit(values.high, i) << vec2(4u));
}
