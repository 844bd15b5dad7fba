fn load_scale(row: u32, block: u32) -> vec2<f32> { return vec2(1.0, 0.0); }

fn unpack2xbf16(word: u32) -> vec2<f32> {
  return vec2(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = (row * UNITS + unit) * 4u;
  return Unit(
    vec4(unpack2xbf16(weights[at]), unpack2xbf16(weights[at + 1u])),
    vec4(unpack2xbf16(weights[at + 2u]), unpack2xbf16(weights[at + 3u])),
  );
}
