fn load_scale(row: u32, block: u32) -> vec2<f32> {
  let pair = unpack2x16float(weights[SCALES_AT + row * SCALE_WORDS + block / 2u]);
  let d = select(pair.x, pair.y, (block & 1u) == 1u);
  return vec2(d, -8.0 * d);
}

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let word = weights[row * UNITS + unit];
  return Unit(
    fma(vec4<f32>(unpack4xU8(word & 0x0f0f0f0fu)), vec4(scale.x), vec4(scale.y)),
    fma(vec4<f32>(unpack4xU8((word >> 4u) & 0x0f0f0f0fu)), vec4(scale.x), vec4(scale.y)),
  );
}
