// The tiny GGUF files of the golden ones as models to chat with: with a tokenizer of single bytes and a chat template, neither of
// which they have of their own, whole or in shards as llama.cpp's gguf-split makes them.
import { readFileSync } from "node:fs";
import { TEMPLATE, tokensOf } from "./tiny.mjs";

const GOLDEN = new URL("../../../../tests/golden/", import.meta.url);
const ALIGNMENT = 32;
const [U16, I32, STRING, ARRAY] = [2, 5, 8, 9];
/** Bytes of a value, by its type's number. */
const SIZES = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8];
const CONTROL = 3;
const NORMAL = 1;

/** The native engine's first 8 tokens after a user's "hello there". */
export const HELLOS = {
  "tiny-qwen3-f16": "\ufffdS\ufffdE\ufffd\ufffd\ufffd<w290>",
  "tiny-gemma3-f16": `${"\ufffd".repeat(7)}<w331>`,
  "tiny-lfm2-f16": "o<w266>\ufffd\ufffd\ufffdh\ufffd<w278>",
};

/**
 * The file of `tests/golden/NAME.gguf`, or its shards, by file name. `change` is given the fields by name, as `string` writes one, and
 * the tensors, each with its description up to the offset as `info`.
 */
export function chatGguf(name, shards = 1, change = () => undefined) {
  const { fields, tensors } = read(readFileSync(new URL(`${name}.gguf`, GOLDEN)));
  const vocabulary = tokensOf(fields.get("tokenizer.ggml.tokens").readUInt32LE(8));
  fields.set("tokenizer.ggml.tokens", strings(vocabulary));
  fields.set("tokenizer.ggml.token_type", integers(vocabulary.map((_, id) => (id < 3 ? CONTROL : NORMAL))));
  fields.set("tokenizer.ggml.merges", strings([]));
  fields.set("tokenizer.chat_template", typed(STRING, text(TEMPLATE)));
  change(fields, tensors);
  if (shards === 1) return { [`${name}.gguf`]: write(fields, tensors) };
  const each = Math.ceil(tensors.length / shards);
  const digits = (number) => String(number).padStart(5, "0");
  return Object.fromEntries(
    Array.from({ length: shards }, (_, at) => {
      const shard = new Map(at === 0 ? fields : []);
      shard.set("split.no", typed(U16, integer(2, at)));
      shard.set("split.count", typed(U16, integer(2, shards)));
      shard.set("split.tensors.count", typed(I32, integer(4, tensors.length)));
      return [`${name}-${digits(at + 1)}-of-${digits(shards)}.gguf`, write(shard, tensors.slice(at * each, (at + 1) * each))];
    }),
  );
}

/** Fields by name, each its type and value as the file has them; and tensors with their `info` up to the offset, and their `data`. */
function read(bytes) {
  let at = 8;
  const u32 = () => bytes.readUInt32LE((at += 4) - 4);
  const u64 = () => Number(bytes.readBigUInt64LE((at += 8) - 8));
  const string = () => bytes.toString("utf8", at + 8, (at += 8 + Number(bytes.readBigUInt64LE(at))));
  const skip = (type) => {
    if (type === STRING) return void string();
    if (type !== ARRAY) return void (at += SIZES[type]);
    const [of, length] = [u32(), u64()];
    for (let index = 0; index < length; index++) skip(of);
  };
  const [tensorCount, fieldCount] = [u64(), u64()];
  const fields = new Map();
  for (let index = 0; index < fieldCount; index++) {
    const key = string();
    const begin = at;
    skip(u32());
    fields.set(key, bytes.subarray(begin, at));
  }
  const infos = Array.from({ length: tensorCount }, () => {
    const begin = at;
    string();
    const sizes = u32();
    at += 8 * sizes + 4;
    return { info: bytes.subarray(begin, at), offset: u64() };
  });
  const begin = aligned(at);
  const ends = [...infos.map(({ offset }) => offset), bytes.length - begin].sort((a, b) => a - b);
  const tensors = infos.map(({ info, offset }) => ({ info, data: bytes.subarray(begin + offset, begin + ends.find((end) => end > offset)) }));
  return { fields, tensors };
}

function write(fields, tensors) {
  const parts = [Buffer.from("GGUF"), integer(4, 3), integer(8, tensors.length), integer(8, fields.size)];
  for (const [key, value] of fields) parts.push(text(key), value);
  let offset = 0;
  for (const { info, data } of tensors) {
    parts.push(info, integer(8, offset));
    offset = aligned(offset + data.length);
  }
  return Buffer.concat([Buffer.concat(parts), ...tensors.map(({ data }) => data)].flatMap(padded));
}

const aligned = (length) => Math.ceil(length / ALIGNMENT) * ALIGNMENT;
const padded = (bytes) => [bytes, Buffer.alloc(aligned(bytes.length) - bytes.length)];

/** Little-endian. */
function integer(bytes, value) {
  const out = Buffer.alloc(bytes);
  out.writeUIntLE(value, 0, Math.min(bytes, 6));
  return out;
}

function text(value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([integer(8, bytes.length), bytes]);
}

/** A field of text. */
export const string = (value) => typed(STRING, text(value));
const typed = (type, value) => Buffer.concat([integer(4, type), value]);
const strings = (list) => typed(ARRAY, Buffer.concat([integer(4, STRING), integer(8, list.length), ...list.map(text)]));
const integers = (list) => typed(ARRAY, Buffer.concat([integer(4, I32), integer(8, list.length), ...list.map((value) => integer(4, value))]));
