// Rotates and writes two neighbouring dims of a head of Q, K or V of a batch row. Q and K are rotated (RoPE, arXiv 2104.09864,
// neighbouring pairs); K and V go to their page. Heads are numbered Q's first, then K's, then V's. `y` holds Q as [batch row,
// head, dim], `kv` the layer's pages.
#import shared/step
#import shared/page
fn rotated(batch: u32, head: u32, pair: u32, v: vec2<f32>) -> vec2<f32> {
  if (head >= ${HEADS}u + KV_HEADS || pair >= ${ROTARY_PAIRS}u) { return v; }
  let cs = rotation(batch, ${ROTARY_FIRST}u + pair, ${ROTARY_ALL}u);
  return vec2(fma(v.x, cs.x, -(v.y * cs.y)), fma(v.x, cs.y, v.y * cs.x));
}

fn put_query(batch: u32, head: u32, pair: u32, v: vec2<f32>) {
  let at = (batch * ${HEADS}u + head) * HEAD_DIM + pair * 2u;
  y[at] = v.x;
  y[at + 1u] = v.y;
}

// Word `word` of a head of K or V, each in its page.
fn put_word(batch: u32, head: u32, index: u32, word: u32) {
  let slot = slot_of(batch);
  if (head < ${HEADS}u + KV_HEADS) {
    kv[k_word(slot / PAGE, head - ${HEADS}u, index) + slot % PAGE] = word;
  } else {
    kv[v_word(slot / PAGE, head - ${HEADS}u - KV_HEADS, slot % PAGE) + index] = word;
  }
}

#if !KV_Q8
fn put_pair(batch: u32, head: u32, pair: u32, v: vec2<f32>) {
  let out = rotated(batch, head, pair, v);
  if (head < ${HEADS}u) {
    put_query(batch, head, pair, out);
  } else {
    put_word(batch, head, pair, pack2x16float(clamp(out, vec2(-65504.0), vec2(65504.0))));
  }
}
#endif
