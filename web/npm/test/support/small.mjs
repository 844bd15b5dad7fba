// A Llama of random weights, the same each time, so large that its prefill outweighs the page's own cost.
import { wording } from "./tiny.mjs";

/** The files by name. */
export function smallModel() {
  const [hidden, layers, inner, heads, pairs, head, vocab] = [256, 4, 768, 4, 2, 64, 333];
  const config = {
    architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu", hidden_size: hidden, intermediate_size: inner,
    num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: pairs, head_dim: head, vocab_size: vocab,
    max_position_embeddings: 2048, rope_theta: 10000, rms_norm_eps: 1e-5, tie_word_embeddings: true, bos_token_id: 1, eos_token_id: 2,
  };
  const shapes = { "model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden] };
  for (let layer = 0; layer < layers; layer++) {
    const name = (part) => `model.layers.${layer}.${part}.weight`;
    for (const part of ["input_layernorm", "post_attention_layernorm"]) shapes[name(part)] = [hidden];
    for (const part of ["q", "k", "v"]) shapes[name(`self_attn.${part}_proj`)] = [(part === "q" ? heads : pairs) * head, hidden];
    shapes[name("self_attn.o_proj")] = [hidden, heads * head];
    for (const part of ["gate", "up"]) shapes[name(`mlp.${part}_proj`)] = [inner, hidden];
    shapes[name("mlp.down_proj")] = [hidden, inner];
  }
  return { "config.json": Buffer.from(JSON.stringify(config)), "model.safetensors": safetensors(shapes), ...wording(vocab) };
}

/** F32 tensors: norms of ones, and matrices of small numbers from a linear congruential generator. */
function safetensors(shapes) {
  const header = {};
  let end = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const begin = end;
    end += 4 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: "F32", shape, data_offsets: [begin, end] };
  }
  const json = JSON.stringify(header);
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const data = new Float32Array(end / 4);
  let state = 1;
  for (const { shape, data_offsets } of Object.values(header)) {
    const tensor = data.subarray(data_offsets[0] / 4, data_offsets[1] / 4);
    for (let index = 0; index < tensor.length; index++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      tensor[index] = shape.length === 1 ? 1 : (state / 2 ** 32 - 0.5) / 8;
    }
  }
  return Buffer.concat([length, text, Buffer.from(data.buffer)]);
}
