#import quant/planes
const LEVELS = vec4<u32>(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
#import quant/levels

fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let block = unit / 4u;
  let exponent = (word(SCALES_AT + row * SCALE_WORDS + block / 4u) >> (8u * (block % 4u))) & 255u;
  // Half a power of two; the two smallest are subnormal.
  let bits = select((exponent - 1u) << 23u, 0x00200000u << (exponent & 1u), exponent < 2u);
  return vec2(bitcast<f32>(bits), 0.0);
}
