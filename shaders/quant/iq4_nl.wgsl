#import quant/planes
const LEVELS = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
#import quant/levels

fn load_scale(row: u32, unit: u32) -> vec2<f32> { return vec2(half_of(row, unit / 4u), 0.0); }
