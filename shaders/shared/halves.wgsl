// The nearest f16; what is beyond their range becomes its end.
fn halves(v: vec4<f32>) -> vec4<f16> { return vec4<f16>(clamp(v, vec4(-65504.0), vec4(65504.0))); }
