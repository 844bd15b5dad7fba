#import quant/affine
#import quant/k_scales

alias Values = FourBits;
fn load_values(row: u32, unit: u32) -> Values { return load_four_bits(row, 0u, unit); }
fn quants_of(values: Values, i: u32) -> vec2<u32> { return four_bits(values, i); }
