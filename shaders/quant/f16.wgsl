fn load_scale(row: u32, block: u32) -> vec2<f32> { return vec2(1.0, 0.0); }

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = (row * UNITS + unit) * 4u;
  return Unit(
    vec4(unpack2x16float(weights[at]), unpack2x16float(weights[at + 1u])),
    vec4(unpack2x16float(weights[at + 2u]), unpack2x16float(weights[at + 3u])),
  );
}
