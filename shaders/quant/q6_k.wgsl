#import quant/affine

// The scale of a group of 16 elements, from its byte.
fn scale_from(d: f32, bytes: u32, group: u32) -> vec2<f32> {
  let own = d * f32(extractBits(bitcast<i32>(bytes), 8u * (group % 4u), 8u));
  return vec2(own, -32.0 * own);
}

alias Packed = vec2<u32>;
fn load_packed(row: u32, unit: u32) -> Packed {
  let bytes = word(scale_at(row, unit / 8u));
  return vec2(bytes, load_half_pair(row, UNITS / 4u + unit / 32u));
}
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> {
  return scale_from(half_of(packed.y, UNITS / 4u + unit / 32u), packed.x, unit / 2u);
}

#if WIDE
struct Head { bytes: vec4<u32>, d: f32 }
fn load_head(row: u32, unit: u32) -> Head {
  let first = unit / 8u;
  let bytes = vec4(
    word(scale_at(row, first)),
    word(scale_at(row, first + 1u)),
    word(scale_at(row, first + 2u)),
    word(scale_at(row, first + 3u)),
  );
  let place = UNITS / 4u + unit / 32u;
  return Head(bytes, half_of(load_half_pair(row, place), place));
}
fn scale_of(head: Head, unit: u32) -> vec2<f32> {
  return scale_from(head.d, head.bytes[unit / 8u % 4u], unit / 2u);
}
#endif

struct Values { low: FourBits, high: TwoBits }
fn load_values(row: u32, unit: u32) -> Values {
  return Values(load_four_bits(row, 0u, unit), load_two_bits(row, UNITS, unit));
}
fn quants_of(values: Values, i: u32) -> vec2<u32> {
  return four_bits(values.low, i) | (two_bits(values.high, i) << vec2(4u));
}
