// rounded[row] = gains RMSNorm(x[row]) or, without NORM, x[row] itself, as products read it: in f16; with BYTES, in 8 bits. Rows
// are those of the batch that the span has; with CHOICES, the first ones. One workgroup for each row.
#if !BYTES
enable f16;
#endif
#import shared/step
// [rows, COLS]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gains: array<vec4<f32>>;
#if BYTES
// [rows, COLS / 32, 3]: see linear/bytes.wgsl
@group(0) @binding(3) var<storage, read_write> rounded: array<vec4<u32>>;
#else
#import shared/halves
// [rows, COLS]
@group(0) @binding(3) var<storage, read_write> rounded: array<vec4<f16>>;
#endif
#if NORM
#import shared/rms
fn scaled(v: vec4<f32>, quad: u32, factor: f32) -> vec4<f32> { return v * gains[quad] * factor; }
#else
const QUADS = ${COLS/4}u;
fn inverse_rms(at: u32, lane: u32) -> f32 { return 1.0; }
fn scaled(v: vec4<f32>, quad: u32, factor: f32) -> vec4<f32> { return v; }
#endif

#if BYTES
// Blocks of less are zeros.
const LEAST = 1e-30;

// 32 elements as multiples of d, the 127th part of the largest magnitude.
fn quantize(at: u32, block: u32, factor: f32) {
  var most = vec4(0.0);
  for (var quad = block * 8u; quad < block * 8u + 8u; quad++) { most = max(most, abs(scaled(x[at + quad], quad, factor))); }
  let top = max(max(most.x, most.y), max(most.z, most.w));
  let inverse = select(0.0, 127.0 / top, top > LEAST);
  let out = at / 8u * 3u + block * 3u;
  var sums: array<i32, 2>;
  for (var half = 0u; half < 2u; half++) {
    var words: vec4<u32>;
    for (var i = 0u; i < 4u; i++) {
      let quad = block * 8u + half * 4u + i;
      let q = vec4<i32>(round(scaled(x[at + quad], quad, factor) * inverse));
      words[i] = pack4xI8(q);
      sums[half] += q.x + q.y + q.z + q.w;
    }
    rounded[out + half] = words;
  }
  let d = top / 127.0;
  rounded[out + 2u] = bitcast<vec4<u32>>(d * vec4(1.0, f32(sums[0]), f32(sums[1]), f32(sums[0] + sums[1])));
}
#endif

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
#if CHOICES
  let at = group.x * QUADS;
#else
  let at = batch_row(group.x) * QUADS;
#endif
  let factor = inverse_rms(at, lane);
#if BYTES
  for (var block = lane; block < QUADS / 8u; block += ${LANES}u) { quantize(at, block, factor); }
#else
  for (var quad = lane; quad < QUADS; quad += ${LANES}u) { rounded[at + quad] = halves(scaled(x[at + quad], quad, factor)); }
#endif
}
