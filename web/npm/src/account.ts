/** The account that every answer gives: where the KV of its prompt came from, and why the rest was not reused. */

import type { Prefix } from "./types.js";

/** Prompt tokens by the source of their KV. The numbers add up to the prompt. */
export interface Sources {
  gpu: number;
  memory: number;
  disk: number;
  remote: number;
  pack: number;
  computed: number;
}

/** The reason why tokens were not reused. */
export type MissReason =
  | "cold"
  | "diverged"
  | "below_min"
  | "evicted"
  | "not_kept"
  | "another_users"
  | "expired"
  | "namespace_changed"
  | "salt"
  | "integrity"
  | "deadline"
  | "slower_than_computing"
  | "decode_written"
  | "no_state";

/** A run of prompt tokens that were not reused. */
export interface Miss {
  reason: MissReason;
  /**
   * With `namespace_changed`: what differs, `kv_dtype` (the option `kv`) or `numerics` (the class of `kernels`). KV of another model is
   * not looked for: its tokens are `cold`.
   */
  field?: string;
  /** Index of the first token. */
  from: number;
  tokens: number;
}

/** The owner of a piece of a prompt. */
export type Owner =
  | { owner: "message"; message: number; role: string }
  | { owner: "tools"; tool: number | null; name: string | null }
  | { owner: "template"; date: boolean }
  | { owner: "prompt" }
  | { owner: "namespace"; field: string };

/** The place where a prompt differs from known prompts. */
export type Divergence = Owner & {
  /** Index of the first token that differs. */
  token: number;
  /** The text just before it, which is the same in both. */
  shared: string;
  /** The text of the known prompt there. */
  known: string;
  /** The text of this prompt there. */
  prompt: string;
  /** How the texts differ. */
  change: "tokenization" | "thinking" | "whitespace" | "order" | "number" | "text";
  /** The kind of difference, which decides the advice. */
  kind: DivergenceKind;
  /** Prompt tokens that the cache could reuse without this difference. */
  recoverable: number;
  /** What to do about it, in a sentence or two. */
  advice: string;
};

/** Why two prompts share nothing after a place. */
export type DivergenceKind =
  | "changing_value"
  | "reordered"
  | "dropped"
  | "edited"
  | "added"
  | "whitespace"
  | "template"
  | "tools_ignored"
  | "settings"
  | "none";

/** A place where two requests differ. */
export interface Difference {
  kind: DivergenceKind;
  /** The owner of the text, in words. */
  owner: string;
  /** The index of the message; null if the owner is no message. */
  message: number | null;
  /** The whole line in each request; empty if a request has none. */
  line_a: string;
  line_b: string;
  /** What to do about it, in a sentence or two. */
  advice: string;
}

/** A run of stored tokens, and whether loading them was expected to be faster than computing them. */
export interface Choice {
  tier: "memory" | "disk" | "remote" | "pack";
  tokens: number;
  load: boolean;
  load_ms: number | null;
  prefill_ms: number | null;
}

/** The comparison of two prompts: what a cache could reuse of the second one after the first one. */
export interface Explanation {
  tokens: { known: number; prompt: number };
  shared_tokens: number;
  /** Every difference in order; one of kind `none` if nothing needs a change. */
  divergences: Difference[];
  /** Leading tokens that both share in the best order: static parts first, variables last. */
  fixed_shared_tokens: number;
  /** Both requests in that order. Only the places of their parts change. */
  fixed: [Prefix, Prefix];
  cache: CacheReport;
  /** The first difference of the tokens; null if one prompt begins with the other. */
  divergence: Divergence | null;
  /** Index of the token at which the template writes the date; null if it writes none. */
  date_token: number | null;
}

export interface CacheReport {
  prompt_tokens: number;
  sources: Sources;
  /** In prompt order. */
  misses: Miss[];
  /** Index of the first prompt token at which a known prompt continues differently. */
  first_divergent: number | null;
  choices?: Choice[];
  divergence?: Divergence | null;
  /** The time that reuse saved: computing the reused tokens would have taken so much longer than loading them, at the measured rates. */
  saved_ms?: number;
}
