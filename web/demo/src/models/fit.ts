// Tells in a sentence whether a model fits a device. Pure: the numbers come from the list of models and from `device`.

import type { ListedModel } from "headstart";
import { size } from "../text/size";
import type { Device } from "./device";

export interface Verdict {
  /** It fits; it fits with a limitation; it will probably not run. */
  level: "fits" | "tight" | "large";
  text: string;
}

/** Tokens of conversation for the stated memory. */
export const TOKENS = 4096;
/** Few devices give a page more bytes than these, and browsers do not report more. */
const USUAL = 8 * 2 ** 30;
/** A context shorter than this holds no conversation. */
const SHORT = 512;

type Shape = Pick<ListedModel, "bytes" | "context" | "layers" | "kv_heads" | "head_dim">;

/** Bytes of keys and values of a token in one layer, as f16. */
const layerBytes = ({ kv_heads, head_dim }: Shape): number => 2 * 2 * kv_heads * head_dim;

/** Bytes of weights and KV; null where the weights' size is not known. */
export function memoryOf(model: Shape, tokens = TOKENS): number | null {
  return model.bytes === undefined ? null : model.bytes + layerBytes(model) * model.layers * Math.min(tokens, model.context);
}

/** `kept`: whether this browser keeps the model's file. */
export function fit(model: Shape, { buffer, room, memory }: Device, kept = false): Verdict {
  const needed = memoryOf(model);
  const takes = needed === null ? "" : `takes about ${size(needed)} of memory with ${Math.min(TOKENS, model.context).toLocaleString("en")} tokens`;
  if (needed !== null && memory !== undefined && needed > memory) return { level: "large", text: `Too large: it ${takes}, and this device has about ${size(memory)}.` };
  if (needed !== null && memory === undefined && needed > USUAL) return { level: "large", text: `Too large for most devices: it ${takes}, and the graphics card must have as much.` };
  // Each layer's keys and values lie in one buffer.
  const tokens = buffer === undefined ? model.context : Math.min(model.context, Math.floor(buffer / layerBytes(model)));
  if (tokens < SHORT) return { level: "large", text: `Too large: a buffer of this graphics card holds ${tokens} tokens of it.` };
  const short: string[] = [];
  if (!kept && model.bytes !== undefined && room !== undefined && model.bytes > room) short.push(`this browser can keep ${size(room)}, so each visit downloads it again`);
  if (needed !== null && memory !== undefined && needed > memory / 2) short.push(`this device has about ${size(memory)} in all`);
  if (tokens < Math.min(TOKENS, model.context)) short.push(`at most ${tokens.toLocaleString("en")} tokens fit a buffer of this graphics card`);
  if (short.length > 0) return { level: "tight", text: `Tight: ${[...(takes ? [`it ${takes}`] : []), ...short].join("; ")}.` };
  return { level: "fits", text: takes ? `Fits: it ${takes}.` : "The download shows its size." };
}
