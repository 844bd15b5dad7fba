// The nearest f16; what is beyond their range becomes its end.
fn halves(v: vec4<f32>) -> vec4<f16> { return clamp(vec4<f16>(v), vec4<f16>(-65504.0h), vec4<f16>(65504.0h)); }
