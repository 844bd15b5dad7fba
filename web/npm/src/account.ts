/** Where a prompt came from, and why not all of it: the account that every answer gives. */

import type { Prefix } from "./types.js";

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
  | "another_users"
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
  /** How the texts differ. */
  change: "tokenization" | "thinking" | "whitespace" | "order" | "number" | "text";
  /** What kind of difference it is, and so what to do about it. */
  kind: DivergenceKind;
  /** Prompt tokens that the cache could reuse if this were mended. */
  recoverable: number;
  /** What to do about it, in a sentence or two. */
  advice: string;
};

/** Why two prompts do not share what stands behind a place. */
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
  /** Whose text it is, in words. */
  owner: string;
  /** The index of that message; null where it is no message. */
  message: number | null;
  /** The whole line of each request; empty where it has none. */
  line_a: string;
  line_b: string;
  /** What to do about it, in a sentence or two. */
  advice: string;
}

/** A run of stored tokens, and whether loading it was expected to be faster than computing it. */
export interface Choice {
  tier: "memory" | "disk" | "remote" | "pack";
  tokens: number;
  load: boolean;
  load_ms: number | null;
  prefill_ms: number | null;
}

/** Two prompts compared, as a cache would see the second after the first. */
export interface Explanation {
  tokens: { known: number; prompt: number };
  shared_tokens: number;
  /** Every difference in order; one of kind `none` where there is nothing to mend. */
  divergences: Difference[];
  /** Leading tokens that both share once they are put in order: static first, variables last. */
  fixed_shared_tokens: number;
  /** Both so: nothing that they say is lost or changed but its place. */
  fixed: [Prefix, Prefix];
  cache: CacheReport;
  /** Where the tokens first part; null where one prompt begins with the other. */
  divergence: Divergence | null;
  /** Where the template writes the day, if it does. */
  date_token: number | null;
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
