/** Where a prompt came from, and why not all of it: the account that every answer gives. */

/** Prompt tokens by where their KV came from; they add up to the prompt. */
export interface Sources {
  gpu: number;
  memory: number;
  disk: number;
  remote: number;
  pack: number;
  computed: number;
}

/** Why tokens were not reused. */
export type MissReason =
  | "cold"
  | "diverged"
  | "below_min"
  | "evicted"
  | "not_kept"
  | "expired"
  | "namespace_changed"
  | "salt"
  | "integrity"
  | "deadline"
  | "slower_than_computing"
  | "decode_written"
  | "no_state";

/** A run of prompt tokens that could have been reused and was not. */
export interface Miss {
  reason: MissReason;
  /** With `namespace_changed`: what differs, such as `weights` or `adapter`. */
  field?: string;
  /** Index of the first token. */
  from: number;
  tokens: number;
}

/** Who made a piece of a prompt. */
export type Owner =
  | { owner: "message"; message: number; role: string }
  | { owner: "tools"; tool: number | null; name: string | null }
  | { owner: "template"; date: boolean }
  | { owner: "prompt" }
  | { owner: "namespace"; field: string };

/** Where a prompt leaves what is known. */
export type Divergence = Owner & {
  /** Index of the first token that differs. */
  token: number;
  /** Text just before, the same on both sides. */
  shared: string;
  /** The text that is known there. */
  known: string;
  /** The text of the prompt there. */
  prompt: string;
  change: "tokenization" | "thinking" | "whitespace" | "order" | "number" | "text";
  /** Prompt tokens behind the difference that mending it would let the cache reuse. */
  recoverable: number;
  /** What to do about it, where something can be done. */
  advice?: string | null;
};

/** A run of stored tokens, and whether loading it was expected to be faster than computing it. */
export interface Choice {
  tier: "memory" | "disk" | "remote" | "pack";
  tokens: number;
  load: boolean;
  load_ms: number | null;
  prefill_ms: number | null;
}

export interface CacheReport {
  prompt_tokens: number;
  sources: Sources;
  /** In prompt order. */
  misses: Miss[];
  /** The first prompt token for which another continuation is known. */
  first_divergent: number | null;
  choices?: Choice[];
  divergence?: Divergence | null;
  /** What prefill of the reused tokens would have taken beyond what loading them took, from the rates measured so far. */
  saved_ms?: number;
}
