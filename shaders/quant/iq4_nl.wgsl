#import quant/planes
const LEVELS = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
#import quant/levels

alias Packed = u32;
fn load_packed(row: u32, unit: u32) -> Packed { return load_half_pair(row, unit / 4u); }
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> { return vec2(half_of(packed, unit / 4u), 0.0); }
