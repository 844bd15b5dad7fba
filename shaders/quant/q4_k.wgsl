#import quant/planes
#import quant/k_scales

alias Values = FourBits;
fn load_values(row: u32, unit: u32) -> Values { return load_four_bits(row * VALUE_WORDS, unit); }
fn unit_of(values: Values, i: u32, scale: vec2<f32>) -> Unit { return scaled(four_bits(values, i), scale); }
