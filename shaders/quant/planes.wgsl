// Values in planes of bits (src/quant/affine.rs), scaled by d and m: x = d · q + m.
alias Word = u32;

// The bits of a unit from the plane at word `at`, a byte an element: elements 0..4, elements 4..8.
fn four_bits(at: u32, unit: u32) -> vec2<u32> {
  let word = weights[at + unit];
  return vec2(word, word >> 4u) & vec2(0x0f0f0f0fu);
}

fn two_bits(at: u32, unit: u32) -> vec2<u32> {
  let word = weights[at + unit / 2u] >> (4u * (unit % 2u));
  return vec2(word, word >> 2u) & vec2(0x03030303u);
}

fn one_bit(at: u32, unit: u32) -> vec2<u32> {
  let word = weights[at + unit / 4u] >> (2u * (unit % 4u));
  return vec2(word, word >> 1u) & vec2(0x01010101u);
}

fn scaled(quants: vec2<u32>, scale: vec2<f32>) -> Unit {
  return Unit(
    fma(vec4<f32>(unpack4xU8(quants.x)), vec4(scale.x), vec4(scale.y)),
    fma(vec4<f32>(unpack4xU8(quants.y)), vec4(scale.x), vec4(scale.y)),
  );
}

// Number `i` of the halves of a row's scales.
fn half_of(row: u32, i: u32) -> f32 {
  let pair = unpack2x16float(weights[SCALES_AT + row * SCALE_WORDS + i / 2u]);
  return select(pair.x, pair.y, (i & 1u) == 1u);
}
