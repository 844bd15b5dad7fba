#import quant/planes
const LEVELS = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
#import quant/levels

alias Packed = vec2<u32>;
fn load_packed(row: u32, unit: u32) -> Packed {
  let first = unit / 32u * 2u;
  return vec2(word(scale_at(row, first)), word(scale_at(row, first + 1u)));
}
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> {
  let group = unit / 4u % 8u;
  let low = (packed.y >> (4u * group)) & 15u;
  let high = (packed.x >> (16u + 2u * group)) & 3u;
  return vec2(unpack2x16float(packed.x).x * (f32(low | (high << 4u)) - 32.0), 0.0);
}
