#import quant/affine
#import quant/k_scales

struct Values { low: FourBits, high: OneBit }
fn load_values(row: u32, unit: u32) -> Values {
  return Values(load_four_bits(row, 0u, unit), load_one_bit(row, UNITS, unit));
}
fn quants_of(values: Values, i: u32) -> vec2<u32> {
  return four_bits(values.low, i) | (one_bit(values.high, i) << vec2(4u));
}
