// A model small enough for any test: the tiny Llama of the golden files, with a tokenizer of single bytes and a chat
// template, neither of which it has of its own. It answers gibberish, the same each time.
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../tests/golden/tiny-wide-f32/", import.meta.url));
const TEMPLATE =
  "{% for message in messages %}{{ '<s>' + message['role'] + '\\n' + message['content'] + '</s>' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}";

/** The files by name. */
export function tinyModel() {
  const names = readdirSync(ROOT).filter((name) => /safetensors|config/.test(name));
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(ROOT + name)]));
  return { ...files, ...wording(JSON.parse(files["config.json"]).vocab_size) };
}

/** A model of random weights, the same each time, in which what a page itself costs is little beside a prefill. */
export function smallModel() {
  const [hidden, layers, inner, heads, pairs, head, vocab] = [256, 8, 768, 4, 2, 64, 333];
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

function wording(vocabulary) {
  return {
    "tokenizer.json": Buffer.from(JSON.stringify(tokenizer(vocabulary))),
    "tokenizer_config.json": Buffer.from(JSON.stringify({ bos_token: "<s>", eos_token: "</s>", chat_template: TEMPLATE })),
  };
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

function tokenizer(size) {
  const specials = ["<unk>", "<s>", "</s>"];
  const tokens = [...specials, ...byteCharacters()];
  while (tokens.length < size) tokens.push(`w${tokens.length}`);
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specials.map((content, id) => ({ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true })),
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false,
      byte_fallback: false, ignore_merges: false, vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges: [],
    },
  };
}

/** What byte-level tokenizers write for each byte: itself where it prints, else a character from 256 on. */
function byteCharacters() {
  const prints = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(prints(byte) ? byte : next++));
}
