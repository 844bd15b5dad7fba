// A model small enough for any test: the tiny Llama of the golden files, with a tokenizer of single bytes and a chat
// template, both of which it lacks. It answers gibberish, the same each time.
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const GOLDEN = fileURLToPath(new URL("../../../../tests/golden/", import.meta.url));
export const TEMPLATE =
  "{% for message in messages %}{{ '<s>' + message['role'] + '\\n' + message['content'] + '</s>' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}";

/** The files by name, with room for a long prompt; `changed` are fields of the configuration, and `folder` another golden model. */
export function tinyModel(changed = {}, folder = "tiny-wide-f32") {
  const names = readdirSync(GOLDEN + folder).filter((name) => /safetensors|config/.test(name));
  const files = Object.fromEntries(names.map((name) => [name, readFileSync(`${GOLDEN}${folder}/${name}`)]));
  const config = { ...JSON.parse(files["config.json"]), max_position_embeddings: 4096, ...changed };
  return { ...files, "config.json": Buffer.from(JSON.stringify(config)), ...wording(config.vocab_size) };
}

/** Its first layer alone, which prefills 2,000 tokens in seconds on any adapter. */
export const shallowModel = () => tinyModel({ num_hidden_layers: 1 });

/** The tokenizer and template of a model with a vocabulary of this size. */
export function wording(vocabulary) {
  return {
    "tokenizer.json": Buffer.from(JSON.stringify(tokenizer(vocabulary))),
    "tokenizer_config.json": Buffer.from(JSON.stringify({ bos_token: "<s>", eos_token: "</s>", chat_template: TEMPLATE })),
  };
}

const specials = ["<unk>", "<s>", "</s>"];

/** A vocabulary of this size: three control tokens, the bytes, and unused words. */
export function tokensOf(size) {
  const tokens = [...specials, ...byteCharacters()];
  while (tokens.length < size) tokens.push(`<w${tokens.length}>`);
  return tokens;
}

function tokenizer(size) {
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
      byte_fallback: false, ignore_merges: false, vocab: Object.fromEntries(tokensOf(size).map((token, id) => [token, id])), merges: [],
    },
  };
}

/** What byte-level tokenizers write for each byte: itself where it prints, else a character from 256 on. */
function byteCharacters() {
  const prints = (byte) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(prints(byte) ? byte : next++));
}
