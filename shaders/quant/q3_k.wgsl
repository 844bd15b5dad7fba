#import quant/affine

alias Packed = vec3<u32>;
fn load_packed(row: u32, unit: u32) -> Packed {
  let first = unit / 32u * 3u;
  return vec3(
    word(scale_at(row, first + unit / 16u % 2u)),
    word(scale_at(row, first + 2u)),
    load_half_pair(row, UNITS / 32u * 6u + unit / 32u),
  );
}
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> {
  let group = unit / 2u % 16u;
  let low = (packed.x >> (4u * (group % 8u))) & 15u;
  let high = (packed.y >> (2u * group)) & 3u;
  let d = half_of(packed.z, UNITS / 32u * 6u + unit / 32u) * (f32(low | (high << 4u)) - 32.0);
  return vec2(d, -4.0 * d);
}

struct Values { low: TwoBits, high: OneBit }
fn load_values(row: u32, unit: u32) -> Values {
  return Values(load_two_bits(row, 0u, unit), load_one_bit(row, UNITS / 2u, unit));
}
fn quants_of(values: Values, i: u32) -> vec2<u32> {
  return two_bits(values.low, i) | (one_bit(values.high, i) << vec2(2u));
}
