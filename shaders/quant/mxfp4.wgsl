#import quant/planes
const LEVELS = vec4<u32>(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
#import quant/levels

alias Packed = u32;
fn load_packed(row: u32, unit: u32) -> Packed { return word(scale_at(row, unit / 16u)); }
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> {
  let exponent = (packed >> (8u * (unit / 4u % 4u))) & 255u;
  // Half of 2^(exponent - 127); for the two smallest exponents it is subnormal.
  let bits = select((exponent - 1u) << 23u, 0x00200000u << (exponent & 1u), exponent < 2u);
  return vec2(bitcast<f32>(bits), 0.0);
}
