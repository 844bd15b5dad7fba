// Rounds to the nearest f16; values out of range become its largest finite ones.
fn halves(v: vec4<f32>) -> vec4<f16> { return clamp(vec4<f16>(v), vec4<f16>(-65504.0h), vec4<f16>(65504.0h)); }
