// Quantised values in bit planes (src/quant/affine.rs). The loads fetch the words that hold `unit` of a plane that starts at
// word `first` of a row; with WIDE, those of four units, the first of which is a multiple of four.
#if WIDE
alias Word = vec4<u32>;
fn word(at: u32) -> u32 { return weights[at / 4u][at % 4u]; }

alias FourBits = vec4<u32>;
fn load_four_bits(row: u32, first: u32, unit: u32) -> FourBits { return weights[value_quad(row, (first + unit) / 4u)]; }
fn four_bits(words: FourBits, i: u32) -> vec2<u32> { return (vec2(words[i]) >> vec2(0u, 4u)) & vec2(0x0f0f0f0fu); }

alias TwoBits = vec2<u32>;
fn load_two_bits(row: u32, first: u32, unit: u32) -> TwoBits {
  let at = value_at(row, first + unit / 2u);
  return vec2(word(at), word(at + 1u));
}
fn two_bits(words: TwoBits, i: u32) -> vec2<u32> {
  return (vec2(words[i / 2u]) >> (vec2(0u, 2u) + 4u * (i % 2u))) & vec2(0x03030303u);
}

alias OneBit = u32;
fn load_one_bit(row: u32, first: u32, unit: u32) -> OneBit { return word(value_at(row, first + unit / 4u)); }
fn one_bit(words: OneBit, i: u32) -> vec2<u32> { return (vec2(words) >> (vec2(0u, 1u) + 2u * i)) & vec2(0x01010101u); }
#else
alias Word = u32;
fn word(at: u32) -> u32 { return weights[at]; }

alias FourBits = u32;
fn load_four_bits(row: u32, first: u32, unit: u32) -> FourBits { return word(value_at(row, first + unit)); }
fn four_bits(words: FourBits, i: u32) -> vec2<u32> { return vec2(words, words >> 4u) & vec2(0x0f0f0f0fu); }

alias TwoBits = u32;
fn load_two_bits(row: u32, first: u32, unit: u32) -> TwoBits {
  return word(value_at(row, first + unit / 2u)) >> (4u * (unit % 2u));
}
fn two_bits(words: TwoBits, i: u32) -> vec2<u32> { return vec2(words, words >> 2u) & vec2(0x03030303u); }

alias OneBit = u32;
fn load_one_bit(row: u32, first: u32, unit: u32) -> OneBit {
  return word(value_at(row, first + unit / 4u)) >> (2u * (unit % 4u));
}
fn one_bit(words: OneBit, i: u32) -> vec2<u32> { return vec2(words, words >> 1u) & vec2(0x01010101u); }
#endif

fn load_scale(row: u32, unit: u32) -> vec2<f32> { return unpack_scale(load_packed(row, unit), unit); }

// The word that holds half number `i` of a row's scales, and that half of it.
fn load_half_pair(row: u32, i: u32) -> u32 { return word(scale_at(row, i / 2u)); }
fn half_of(pair: u32, i: u32) -> f32 {
  let halves = unpack2x16float(pair);
  return select(halves.x, halves.y, (i & 1u) == 1u);
}
