// GGUF files with the sizes of real models. Only the header exists; the rest reads as zeros.

const TYPES = { f32: [0, 1, 4], f16: [1, 1, 2], q4_0: [2, 32, 18], q8_0: [8, 32, 34] };
const U32 = 4;
const I32 = 5;
const F32 = 6;
const STRING = 8;
const ARRAY = 9;
const ALIGNMENT = 32;
/** Zeros for the largest single read. */
const ZEROS = new Uint8Array(64 << 20);

/** Llama 3.2 1B and 3B, Llama 3.1 8B, and the largest vocabularies in use. */
export const SHAPES = {
  "1B, 128k tokens": { layers: 16, hidden: 2048, inner: 8192, heads: 32, kv: 8, head: 64, vocab: 128_256, tied: true },
  "3B, 128k tokens": { layers: 28, hidden: 3072, inner: 8192, heads: 24, kv: 8, head: 128, vocab: 128_256, tied: true },
  "3B, 262k tokens": { layers: 34, hidden: 2560, inner: 10_240, heads: 8, kv: 4, head: 256, vocab: 262_144, tied: true },
  "8B, 128k tokens": { layers: 32, hidden: 4096, inner: 14_336, heads: 32, kv: 8, head: 128, vocab: 128_256, tied: false },
  "8B, 262k tokens, whole numbers": { layers: 32, hidden: 4352, inner: 14_336, heads: 34, kv: 2, head: 128, vocab: 262_144, tied: false, type: "f32", large: "f32" },
};

/** A growing buffer of little-endian values in GGUF's encoding. */
class Writer {
  #parts = [];
  length = 0;

  bytes(bytes) {
    this.#parts.push(bytes);
    this.length += bytes.length;
  }
  u32(value) {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    this.bytes(bytes);
  }
  u64(value) {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    this.bytes(bytes);
  }
  string(text) {
    const bytes = Buffer.from(text);
    this.u64(bytes.length);
    this.bytes(bytes);
  }
  strings(list) {
    // One buffer for all strings, since there are hundreds of thousands.
    const bytes = Buffer.alloc(list.reduce((sum, text) => sum + 8 + Buffer.byteLength(text), 0));
    let at = 0;
    for (const text of list) {
      const length = bytes.write(text, at + 8);
      bytes.writeBigUInt64LE(BigInt(length), at);
      at += 8 + length;
    }
    this.u32(STRING);
    this.u64(list.length);
    this.bytes(bytes);
  }
  done() {
    return Buffer.concat(this.#parts);
  }
}

/** The printable characters of byte-level BPE, one for each byte. */
function byteCharacters() {
  const prints = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(prints(byte) ? byte : next++));
}

/** `size` tokens of 7 characters on average, with two merges each as in real vocabularies. The last 256 are control tokens. */
function vocabulary(size) {
  const tokens = byteCharacters();
  const merges = [];
  const plain = size - 256;
  // A tree over the bytes in which each token has three children.
  while (tokens.length < plain) {
    const at = tokens.length - 256;
    const [parent, letter] = [tokens[Math.floor(at / 3)], "abc"[at % 3]];
    const token = parent + letter;
    merges.push(`${parent} ${letter}`);
    if (token.length > 2) merges.push(`${token[0]} ${token.slice(1)}`);
    tokens.push(token);
  }
  const types = Array(plain).fill(1).concat(Array(256).fill(3));
  for (let at = 0; at < 256; at++) tokens.push(`<|reserved_${at}|>`);
  return { tokens, merges, types };
}

/**
 * A model of one of [SHAPES]: `header`, its bytes up to the tensors; `size` of the whole file; and each of `tensors` with its
 * `name`, `rows`, `cols`, `type`, and where its `bytes` begin in the file, `offset`.
 */
export function largeModel({ layers, hidden, inner, heads, kv, head, vocab, tied, type = "q4_0", large = "q8_0" }) {
  const matrices = [["token_embd", vocab, hidden, large], ["output_norm", 1, hidden, "f32"]];
  if (!tied) matrices.push(["output", vocab, hidden, large]);
  for (let layer = 0; layer < layers; layer++) {
    const block = [
      ["attn_norm", 1, hidden, "f32"], ["ffn_norm", 1, hidden, "f32"], ["attn_q", heads * head, hidden, type],
      ["attn_k", kv * head, hidden, type], ["attn_v", kv * head, hidden, type], ["attn_output", hidden, heads * head, type],
      ["ffn_gate", inner, hidden, type], ["ffn_up", inner, hidden, type], ["ffn_down", hidden, inner, type],
    ];
    matrices.push(...block.map(([name, ...rest]) => [`blk.${layer}.${name}`, ...rest]));
  }
  const { tokens, merges, types } = vocabulary(vocab);
  const integers = Buffer.from(Int32Array.from(types).buffer);
  const number = (kind, value) => (out) => {
    out.u32(kind);
    out.bytes(kind === F32 ? Buffer.from(Float32Array.of(value).buffer) : Buffer.from(Uint32Array.of(value).buffer));
  };
  const text = (value) => (out) => {
    out.u32(STRING);
    out.string(value);
  };
  const list = (strings) => (out) => {
    out.u32(ARRAY);
    out.strings(strings);
  };
  const fields = {
    "general.architecture": text("llama"),
    "llama.context_length": number(U32, 131_072),
    "llama.embedding_length": number(U32, hidden),
    "llama.block_count": number(U32, layers),
    "llama.feed_forward_length": number(U32, inner),
    "llama.attention.head_count": number(U32, heads),
    "llama.attention.head_count_kv": number(U32, kv),
    "llama.attention.key_length": number(U32, head),
    "llama.rope.freq_base": number(F32, 500_000),
    "llama.rope.dimension_count": number(U32, head),
    "llama.attention.layer_norm_rms_epsilon": number(F32, 1e-5),
    "llama.vocab_size": number(U32, vocab),
    "tokenizer.ggml.model": text("gpt2"),
    "tokenizer.ggml.pre": text("llama-bpe"),
    "tokenizer.ggml.tokens": list(tokens),
    "tokenizer.ggml.token_type": (out) => {
      out.u32(ARRAY);
      out.u32(I32);
      out.u64(types.length);
      out.bytes(integers);
    },
    "tokenizer.ggml.merges": list(merges),
    "tokenizer.ggml.eos_token_id": number(U32, vocab - 1),
    "tokenizer.chat_template": text("{% for m in messages %}{{ m.content }}<|reserved_255|>{% endfor %}"),
  };
  const out = new Writer();
  out.bytes(Buffer.from("GGUF"));
  out.u32(3);
  out.u64(matrices.length);
  out.u64(Object.keys(fields).length);
  for (const [key, write] of Object.entries(fields)) {
    out.string(key);
    write(out);
  }
  let end = 0;
  const aligned = (bytes) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
  const tensors = matrices.map(([name, rows, cols, kind]) => {
    const [number, block, blockBytes] = TYPES[kind];
    const tensor = { name: `${name}.weight`, rows, cols, type: kind, offset: end, bytes: (rows * cols * blockBytes) / block };
    end = aligned(end + tensor.bytes);
    out.string(tensor.name);
    out.u32(rows === 1 ? 1 : 2);
    out.u64(cols);
    if (rows > 1) out.u64(rows);
    out.u32(number);
    out.u64(tensor.offset);
    return tensor;
  });
  out.bytes(Buffer.alloc(aligned(out.length) - out.length));
  const header = out.done();
  for (const tensor of tensors) tensor.offset += header.length;
  return { header, size: header.length + end, tensors };
}

/** The file of such a model, with zeros after its header. `reads` counts the bytes read from each tensor and from the header. */
export function zeros({ header, size, tensors }, reads = {}) {
  return {
    name: "large.gguf",
    size,
    async read(offset, length) {
      const tensor = tensors.findLast((tensor) => tensor.offset <= offset);
      const name = tensor?.name ?? "header";
      reads[name] = (reads[name] ?? 0) + length;
      if (offset >= header.length) return ZEROS.subarray(0, length);
      const bytes = new Uint8Array(length);
      bytes.set(header.subarray(offset, offset + length));
      return bytes;
    },
  };
}
