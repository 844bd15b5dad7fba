// A tokenizer that looks real: words in pieces of five characters, behind the headers of a chat template.

import type { ChatMessage } from "headstart";

export interface Rendered {
  tokens: number[];
  pieces: string[];
  message: number[];
}

export function render(messages: readonly ChatMessage[]): Rendered {
  const found: Rendered = { tokens: [], pieces: [], message: [] };
  const add = (text: string, message: number) => {
    for (const piece of cut(text)) {
      found.pieces.push(piece);
      found.tokens.push(hash(piece));
      found.message.push(message);
    }
  };
  messages.forEach(({ role, content }, index) => add(`<|im_start|>${role}\n${String(content)}<|im_end|>\n`, index));
  add("<|im_start|>assistant\n", -1);
  return found;
}

export const cut = (text: string): string[] => text.match(/<\|\w+\|>|\n| ?[^\s<]{1,5}|<|\s/g) ?? [];

function hash(text: string): number {
  let value = 0x811c9dc5;
  for (const character of text) value = Math.imul(value ^ character.codePointAt(0)!, 0x01000193) >>> 0;
  return value;
}
