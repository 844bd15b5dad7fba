// The test double's prefix cache: whole prompts, matched by their longest common beginning in pages of 16 tokens.

import type { CacheReport, Divergence } from "headstart";
import type { Rendered } from "./tokens";

const PAGE = 16;
const KEY = "double.known";

export class Known {
  /** Since this page was opened, with the text of each token. */
  #gpu: Rendered[] = [];
  #disk: Rendered[] = JSON.parse(localStorage.getItem(KEY) ?? "[]");
  #packs: number[][] = [];

  admit(prompt: Rendered, alone = false): CacheReport {
    const total = prompt.tokens.length;
    const most = (all: readonly number[][]) => Math.max(0, ...all.map((tokens) => whole(common(tokens, prompt.tokens), total)));
    const gpu = alone ? 0 : most(this.#gpu.map(({ tokens }) => tokens));
    const disk = alone ? 0 : Math.max(0, most(this.#disk.map(({ tokens }) => tokens)) - gpu);
    const pack = alone ? 0 : Math.max(0, most(this.#packs) - gpu - disk);
    const reused = gpu + disk + pack;
    const divergence = alone ? null : this.#divergence(prompt, reused);
    const left = total - reused;
    if (!alone) this.#learn(prompt);
    return {
      prompt_tokens: total,
      sources: { gpu, memory: 0, disk, remote: 0, pack, computed: left },
      misses: left > 1 ? [{ reason: divergence ? "diverged" : "cold", from: reused, tokens: left - 1 }] : [],
      first_divergent: divergence?.token ?? null,
      choices: [
        ...(disk > 0 ? [{ tier: "disk" as const, tokens: disk, load: true, load_ms: 1, prefill_ms: 9 }] : []),
        ...(pack > 0 ? [{ tier: "pack" as const, tokens: pack, load: true, load_ms: 1, prefill_ms: 9 }] : []),
      ],
      divergence,
    };
  }

  addPack(tokens: number[]): void {
    this.#packs.push(tokens);
  }

  pages(): number {
    return this.#gpu.reduce((all, { tokens }) => all + Math.floor(tokens.length / PAGE), 0);
  }

  stored(): number {
    return this.#disk.reduce((all, { tokens }) => all + Math.floor(tokens.length / PAGE), 0);
  }

  clear(): void {
    [this.#gpu, this.#disk, this.#packs] = [[], [], []];
    localStorage.removeItem(KEY);
  }

  #learn(prompt: Rendered): void {
    this.#gpu.push(prompt);
    this.#disk.push(prompt);
    localStorage.setItem(KEY, JSON.stringify(this.#disk.slice(-8)));
  }

  #divergence(prompt: Rendered, reused: number): Divergence | null {
    const nearest = [...this.#gpu, ...this.#disk].toSorted((one, other) => common(other.tokens, prompt.tokens) - common(one.tokens, prompt.tokens))[0];
    if (!nearest) return null;
    const token = common(nearest.tokens, prompt.tokens);
    const message = prompt.message[token];
    if (token >= nearest.tokens.length || token < reused || message === undefined) return null;
    const text = (pieces: string[]) => pieces.slice(token, token + 12).join("");
    const same = nearest.tokens.slice(token).filter((id) => prompt.tokens.slice(token).includes(id)).length;
    const role = (/<\|im_start\|>(\w+)/.exec(prompt.pieces.slice(prompt.message.indexOf(message)).join("")) ?? [])[1] ?? "user";
    return {
      owner: "message",
      message,
      role,
      token,
      shared: prompt.pieces.slice(Math.max(0, token - 8), token).join(""),
      known: text(nearest.pieces),
      prompt: text(prompt.pieces),
      change: /\d/.test(text(prompt.pieces)) ? "number" : "text",
      kind: role === "system" ? "changing_value" : "edited",
      advice: role === "system" ? "Put what changes last, in a second system message." : "There is nothing to mend.",
      recoverable: same >= PAGE ? same : 0,
    };
  }
}

function common(one: readonly number[], other: readonly number[]): number {
  let at = 0;
  while (at < one.length && at < other.length && one[at] === other[at]) at += 1;
  return at;
}

/** At least one token is computed, for its logits. */
const whole = (tokens: number, total: number) => Math.floor(Math.min(tokens, total - 1) / PAGE) * PAGE;
