// The scales of Q4_K and Q5_K, 4 words for each block (src/quant/k_scales.rs). The scale and minimum of each of its 8 groups
// are computed from the block's two halves, one of two words of low bits, and the word of high bits.
fn scale_from(halves: u32, low_bits: u32, high_bits: u32, group: u32) -> vec2<f32> {
  let pair = unpack2x16float(halves);
  let low = low_bits >> (8u * (group % 4u));
  let high = high_bits >> (4u * group);
  let d = pair.x * f32((low & 15u) | ((high & 3u) << 4u));
  let m = pair.y * f32(((low >> 4u) & 15u) | (((high >> 2u) & 3u) << 4u));
  return vec2(d, -m);
}

#if WIDE
alias Head = vec4<u32>;
fn load_head(row: u32, unit: u32) -> Head { return weights[scale_at(row, unit / 8u) / 4u]; }
fn scale_of(head: Head, unit: u32) -> vec2<f32> {
  let group = unit / 4u % 8u;
  return scale_from(head.x, select(head.y, head.z, group >= 4u), head.w, group);
}

alias Packed = Head;
fn load_packed(row: u32, unit: u32) -> Packed { return load_head(row, unit); }
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> { return scale_of(packed, unit); }
#else
alias Packed = vec3<u32>;
fn load_packed(row: u32, unit: u32) -> Packed {
  let at = scale_at(row, unit / 32u * 4u);
  return vec3(word(at), word(at + 1u + unit / 16u % 2u), word(at + 3u));
}
fn unpack_scale(packed: Packed, unit: u32) -> vec2<f32> {
  return scale_from(packed.x, packed.y, packed.z, unit / 4u % 8u);
}
#endif
