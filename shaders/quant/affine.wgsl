// Formats whose element is d · q + m. Each defines quants_of: the q of one unit's eight elements, a byte each.
#import quant/planes

fn unit_of(values: Values, i: u32, scale: vec2<f32>) -> Unit {
  let quants = quants_of(values, i);
  return Unit(
    fma(vec4<f32>(unpack4xU8(quants.x)), vec4(scale.x), vec4(scale.y)),
    fma(vec4<f32>(unpack4xU8(quants.y)), vec4(scale.x), vec4(scale.y)),
  );
}
