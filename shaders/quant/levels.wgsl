// 4-bit codes for uneven levels; LEVELS holds four signed bytes in each word.
fn level(q: u32) -> f32 {
  let levels = LEVELS;
  return f32(extractBits(bitcast<i32>(levels[q >> 2u]), 8u * (q & 3u), 8u));
}

fn four_levels(quants: u32) -> vec4<f32> {
  let q = unpack4xU8(quants);
  return vec4(level(q.x), level(q.y), level(q.z), level(q.w));
}

alias Values = FourBits;
fn load_values(row: u32, unit: u32) -> Values { return load_four_bits(row * VALUE_WORDS, unit); }
fn unit_of(values: Values, i: u32, scale: vec2<f32>) -> Unit {
  let quants = four_bits(values, i);
  return Unit(four_levels(quants.x) * scale.x, four_levels(quants.y) * scale.x);
}
