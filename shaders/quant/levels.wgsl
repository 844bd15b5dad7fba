// 4-bit codes for uneven levels; LEVELS holds four signed bytes in each word.
fn level(code: u32) -> i32 {
  let levels = LEVELS;
  return extractBits(bitcast<i32>(levels[code >> 2u]), 8u * (code & 3u), 8u);
}

fn four_levels(codes: u32) -> vec4<i32> {
  let code = unpack4xU8(codes);
  return vec4(level(code.x), level(code.y), level(code.z), level(code.w));
}

alias Values = FourBits;
fn load_values(row: u32, unit: u32) -> Values { return load_four_bits(row, 0u, unit); }
fn quants_of(values: Values, i: u32) -> vec2<u32> {
  let codes = four_bits(values, i);
  return vec2(pack4xI8(four_levels(codes.x)), pack4xI8(four_levels(codes.y)));
}
fn unit_of(values: Values, i: u32, scale: vec2<f32>) -> Unit {
  let codes = four_bits(values, i);
  return Unit(vec4<f32>(four_levels(codes.x)) * scale.x, vec4<f32>(four_levels(codes.y)) * scale.x);
}
