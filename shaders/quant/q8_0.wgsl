fn load_scale(row: u32, block: u32) -> vec2<f32> {
  let pair = unpack2x16float(weights[SCALES_AT + row * SCALE_WORDS + block / 2u]);
  return vec2(select(pair.x, pair.y, (block & 1u) == 1u), 0.0);
}

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = (row * UNITS + unit) * 2u;
  return Unit(vec4<f32>(unpack4xI8(weights[at])) * scale.x, vec4<f32>(unpack4xI8(weights[at + 1u])) * scale.x);
}
