fn load_scale(row: u32, block: u32) -> vec2<f32> { return vec2(1.0, 0.0); }

fn load_unit(row: u32, unit: u32, scale: vec2<f32>) -> Unit {
  let at = (row * UNITS + unit) * 8u;
  return Unit(
    vec4(bitcast<f32>(weights[at]), bitcast<f32>(weights[at + 1u]), bitcast<f32>(weights[at + 2u]), bitcast<f32>(weights[at + 3u])),
    vec4(bitcast<f32>(weights[at + 4u]), bitcast<f32>(weights[at + 5u]), bitcast<f32>(weights[at + 6u]), bitcast<f32>(weights[at + 7u])),
  );
}
