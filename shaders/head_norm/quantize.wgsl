// A head of K or V in 8 bits. A block of BLOCK dims has one factor, the least of 8 bits of which 127 reach its largest
// magnitude, and each dim is the nearest multiple of it, the upper one of two. All is decided by comparing products that are
// exact, so that the bits are the same on every adapter, however it divides and rounds (src/kv/format.rs).
var<workgroup> own: array<f32, HEAD_DIM>;

const MOST = 127.0 * 510.0;
// Blocks of less are zeros.
const LEAST = 1e-20;

// The upper half of the factor as f32. The quotient, cut off, is at most two steps below it and never above.
fn factor_bits(most: f32) -> u32 {
  var bits = bitcast<u32>(most / 127.0) >> 16u;
  bits += u32(127.0 * bitcast<f32>(bits << 16u) < most);
  bits += u32(127.0 * bitcast<f32>(bits << 16u) < most);
  return select(bits, 0u, most < LEAST);
}

fn block_bits(block: u32) -> u32 {
  var most = 0.0;
  for (var dim = block * BLOCK; dim < min((block + 1u) * BLOCK, HEAD_DIM); dim++) { most = max(most, abs(own[dim])); }
  return factor_bits(most);
}

fn nearest(x: f32, factor: f32) -> i32 {
  let near = round(x / factor);
  return i32(near) + i32(x >= (near + 0.5) * factor) - i32(x < (near - 0.5) * factor);
}

fn word_of(word: u32) -> u32 {
  if (word >= DIM_WORDS) {
    let block = (word - DIM_WORDS) * 2u;
    return block_bits(block) | (block_bits(block + 1u) << 16u);
  }
  let factor = factor_from(block_bits(word * WIDTH / BLOCK));
  if (factor == 0.0) { return 0u; }
  let dim = word * WIDTH;
  return pack4xI8(vec4(
    nearest(own[dim], factor), nearest(own[dim + 1u], factor), nearest(own[dim + 2u], factor), nearest(own[dim + 3u], factor),
  ));
}
