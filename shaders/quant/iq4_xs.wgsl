#import quant/planes
const LEVELS = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
#import quant/levels

fn load_scale(row: u32, unit: u32) -> vec2<f32> {
  let at = SCALES_AT + row * SCALE_WORDS + unit / 32u * 2u;
  let group = unit / 4u % 8u;
  let head = word(at);
  let low = (word(at + 1u) >> (4u * group)) & 15u;
  let high = (head >> (16u + 2u * group)) & 3u;
  return vec2(unpack2x16float(head).x * (f32(low | (high << 4u)) - 32.0), 0.0);
}
