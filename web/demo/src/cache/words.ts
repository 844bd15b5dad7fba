// The account of a prompt in sentences: why tokens were computed, where the prompt differs from known prompts, and what
// to do about it.

import type { CacheReport, Divergence, Miss } from "headstart";

export const count = (tokens: number): string => `${tokens.toLocaleString("en")} ${tokens === 1 ? "token" : "tokens"}`;

export const duration = (ms: number): string =>
  ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;

const WHY: Record<string, (miss: Miss) => string> = {
  cold: () => "had not been seen before",
  diverged: () => "follow a difference in the text",
  below_min: () => "were known, but too few to be worth reusing",
  evicted: () => "were known once and had to make room",
  not_kept: () => "were known once, and no store kept them",
  another_users: () => "are stored in files of another user, which are not used",
  expired: () => "were known once and had gone unused for too long",
  namespace_changed: (miss) => {
    const field = "field" in miss && miss.field ? miss.field : "setting";
    return field === "kv_dtype" ? "are known in another format of keys and values" : `are known for another ${field === "weights" ? "model" : field}`;
  },
  salt: () => "are known under another salt",
  integrity: () => "were stored, but damaged",
  deadline: () => "were stored, but took too long to load",
  slower_than_computing: () => "are stored, but loading them is slower than computing",
  decode_written: () => "were written while answering, which exact reuse leaves out",
  no_state: () => "are known, but this model keeps its state only at the end of a block, a prompt or an answer",
};

/** Prompt tokens that were computed although nothing was missing: the answer begins with their logits. */
export function needed({ prompt_tokens, sources, misses }: CacheReport): number {
  const missed = misses.reduce((sum, miss) => sum + miss.tokens, 0);
  return missed + prompt_tokens - sources.computed > 0 ? sources.computed - missed : 0;
}

export function why(miss: Miss): string {
  const because = WHY[miss.reason]?.(miss) ?? `were not reused (${miss.reason})`;
  return `${count(miss.tokens)} from token ${miss.from + 1} on ${because}.`;
}

/** `system`: whether the conversation's first message is the system prompt, which people do not count among the others. */
export function ownerName(message: number, role: string | undefined, system: boolean): string {
  if (message < 0) return "the chat template";
  if (role === "system") return "the system prompt";
  const number = system ? message : message + 1;
  return role === "user" ? `message ${number} (yours)` : role === "assistant" ? `message ${number} (the model’s)` : `message ${number}`;
}

export function divergenceOwner(found: Divergence, system: boolean): string {
  switch (found.owner) {
    case "message":
      return ownerName(found.message, found.role, system);
    case "tools":
      return found.name ? `the tool ${found.name}` : "the list of tools";
    case "template":
      return found.date ? "the date that the chat template writes" : "the chat template";
    case "namespace":
      return found.field === "weights" ? "the model file" : `the ${found.field}`;
    default:
      return "the prompt";
  }
}

const CHANGES: Record<string, string> = {
  tokenization: "The text is the same, but its tokens differ from those that were generated.",
  thinking: "The prompt leaves out the thinking of an earlier turn.",
  whitespace: "Only white space differs.",
  order: "The words are the same, in another order.",
  number: "A number, date or identifier differs.",
  text: "The text differs.",
};

export const changeName = (found: Divergence): string => CHANGES[found.change] ?? "The text differs.";

/** What to do about a divergence, in the engine's words. */
export function advice({ advice, recoverable }: Divergence): string {
  return recoverable > 0 ? `${advice} Then ${count(recoverable)} after it could be reused.` : advice;
}
