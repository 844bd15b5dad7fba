// The tiny Llamas as models to chat with: beside their weights a tokenizer of bytes and a template, as the native tests make them.

import { promises as fs } from "node:fs";
import path from "node:path";

const TEMPLATE =
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" +
  "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

function tokenizer() {
  // Byte-level BPE spells bytes that print as themselves, and the others as the characters from 256 on.
  const prints = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let other = 256;
  const vocab = {};
  for (let byte = 0; byte < 256; byte++) vocab[String.fromCodePoint(prints(byte) ? byte : other++)] = byte;
  const mark = (id, content) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const level = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
  return {
    version: "1.0",
    added_tokens: [mark(256, "<|im_start|>"), mark(257, "<|im_end|>")],
    pre_tokenizer: level,
    decoder: level,
    model: { type: "BPE", vocab, merges: [] },
  };
}

/** `/tiny/NAME/FILE`: a file of the model `tests/golden/NAME`; a context other than its own goes into the configuration. */
export async function tinyFiles(root, pathname, context) {
  const [, name, file] = /^\/tiny\/([a-z0-9-]+)\/([a-z0-9._-]+)$/.exec(pathname) ?? [];
  if (!name) return undefined;
  if (file === "tokenizer.json") return Buffer.from(JSON.stringify(tokenizer()));
  if (file === "tokenizer_config.json") return Buffer.from(JSON.stringify({ chat_template: TEMPLATE }));
  const bytes = await fs.readFile(path.join(root, "tests/golden", name, file)).catch(() => undefined);
  if (!context || file !== "config.json") return bytes;
  return Buffer.from(JSON.stringify({ ...JSON.parse(bytes), max_position_embeddings: Number(context) }));
}
