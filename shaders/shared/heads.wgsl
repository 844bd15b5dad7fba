// Writes two neighbouring dims of a head of Q, K or V of a batch row. Q and K are rotated (RoPE, arXiv 2104.09864, neighbouring
// pairs); K and V go to their page as f16. Heads are numbered Q's first, then K's, then V's. `y` holds Q as [batch row, head,
// dim], `kv` the layer's pages.
#import shared/step
#import shared/page
fn put_pair(batch: u32, head: u32, pair: u32, v: vec2<f32>) {
  var out = v;
  if (head < ${HEADS}u + KV_HEADS && pair < ${ROTARY_PAIRS}u) {
    let cs = rotation(batch, ${ROTARY_FIRST}u + pair, ${ROTARY_ALL}u);
    out = vec2(fma(v.x, cs.x, -(v.y * cs.y)), fma(v.x, cs.y, v.y * cs.x));
  }
  if (head < ${HEADS}u) {
    let at = (batch * ${HEADS}u + head) * HEAD_DIM + pair * 2u;
    y[at] = out.x;
    y[at + 1u] = out.y;
    return;
  }
  let slot = slot_of(batch);
  let word = pack2x16float(clamp(out, vec2(-65504.0), vec2(65504.0)));
  if (head < ${HEADS}u + KV_HEADS) {
    kv[k_word(slot / PAGE, head - ${HEADS}u, pair) + slot % PAGE] = word;
  } else {
    kv[v_word(slot / PAGE, head - ${HEADS}u - KV_HEADS, slot % PAGE) + pair] = word;
  }
}
