// An engine without a GPU. It answers with the characters of its prompt, one for each step, so answers can be
// predicted. It can lose its device, run out of memory, be slow, and count its calls.
import { createHash } from "node:crypto";

export class Sha256 {
  #hash = createHash("sha256");
  update(bytes) {
    this.#hash.update(bytes);
  }
  digest() {
    return this.#hash.digest("hex");
  }
}

const code = (text) => [...text].map((character) => character.codePointAt(0));
const text = (tokens) => String.fromCodePoint(...tokens);
const fault = (code, message, fields) => Object.assign({ code, message }, fields);

/** A module as `openCore` takes it. `control` controls and observes its engines. */
export function mockWasm(control = {}) {
  Object.assign(control, { loads: 0, freed: 0, hostsFreed: 0, steps: 0, cancelled: 0, inFlight: 0, imported: 0, requests: [], persisted: 0, ...control });

  class WasmHost {
    tokenize(input) {
      return Uint32Array.from(code(input));
    }
    detokenize(tokens) {
      return text(tokens);
    }
    renderPrompt(messages) {
      const tokens = messages.flatMap(({ content }) => code(content));
      return { tokens, pieces: tokens.map((token) => text([token])), message: tokens.map(() => 0) };
    }
    explain(known, prompt) {
      return { known, prompt };
    }
    stats() {
      return { pages: { total: 1, used: 0, cached: 0 }, tiers: [] };
    }
    free() {
      control.hostsFreed++;
    }
  }

  class WasmEngine {
    #sequences = new Map();
    #held = new Set();
    #next = 1;

    static async load(options, onProgress) {
      control.loads++;
      control.options = options;
      for (const file of options.files) {
        for (let at = 0; at < file.size; at += 1 << 20) await file.read(at, Math.min(1 << 20, file.size - at));
      }
      onProgress({ stage: "upload", done: 1, total: 1 });
      onProgress({ stage: "compile", done: 1, total: 1 });
      if (control.failLoad) throw control.failLoad;
      return new WasmEngine();
    }
    info() {
      return { adapter: { name: "mock", backend: "mock", driver: "", numerics: "f32", notes: [] }, context: 512, vocab: 0x110000, weightsDigest: "0".repeat(64), model: "mock", stopTokens: [], hasTemplate: true };
    }
    #alone() {
      if (control.inFlight > 0) throw new Error("called while a step is in flight");
    }
    submit(request) {
      this.#alone();
      control.requests.push(request);
      if (request.temperature < 0) throw fault("bad_request", "temperature: must not be negative", { field: "temperature" });
      const prompt = request.tokens ?? code(request.prompt ?? request.messages.map(({ content }) => content).join("|"));
      const id = this.#next++;
      this.#sequences.set(id, { prompt, generated: [], most: request.max_tokens ?? prompt.length, read: 0, recovered: 0 });
      return id;
    }
    async step() {
      this.#alone();
      control.inFlight++;
      control.steps++;
      await (control.hold ?? new Promise((resolve) => setTimeout(resolve, 1)));
      control.inFlight--;
      if (control.failStep instanceof Error) throw control.failStep;
      return [...this.#sequences].filter(([id]) => !this.#held.has(id)).flatMap(([id, sequence]) => {
        const { prompt, generated, most } = sequence;
        if (control.failStep) {
          this.#sequences.delete(id);
          return [{ type: "failed", id, error: control.failStep }];
        }
        if (control.loseAt?.includes(control.steps)) {
          sequence.recovered++;
          sequence.read = 0;
          return [];
        }
        if (generated.length === most) return this.#end(id, "length");
        const token = prompt[generated.length % prompt.length];
        generated.push(token);
        const read = sequence.read;
        sequence.read = prompt.length;
        const progress = read < prompt.length ? [{ type: "progress", id, done: prompt.length, total: prompt.length }] : [];
        return [...progress, { type: "text", id, text: text([token]), token }];
      });
    }
    #end(id, reason) {
      const { prompt, generated, recovered } = this.#sequences.get(id);
      this.#sequences.delete(id);
      const sources = { gpu: 0, memory: 0, disk: 0, remote: 0, pack: 0, computed: prompt.length };
      return [{
        type: "finish", id, reason,
        usage: { prompt_tokens: prompt.length, completion_tokens: generated.length, prompt_tokens_details: { cached_tokens: 0 } },
        cache: { prompt_tokens: prompt.length, sources, misses: [], first_divergent: null, divergence: null },
        timings: { ttft_ms: 1, prefill_ms: 1, decode_ms: 1, prefill_tok_s: 1, decode_tok_s: 1 },
        recovered,
      }];
    }
    isBusy() {
      this.#alone();
      return [...this.#sequences.keys()].some((id) => !this.#held.has(id));
    }
    hold(id, still) {
      this.#alone();
      if (still) this.#held.add(id);
      else this.#held.delete(id);
    }
    cancel(id) {
      this.#alone();
      control.cancelled++;
      return this.#sequences.has(id) ? this.#end(id, "cancelled") : [];
    }
    host() {
      return new WasmHost();
    }
    async warm(prefix) {
      control.requests.push(prefix);
      return { prompt_tokens: 1, sources: {}, misses: [], first_divergent: null };
    }
    async exportPack() {
      return new TextEncoder().encode("pack");
    }
    importPack(bytes, options) {
      control.imported++;
      control.importOptions = options;
      if (new TextDecoder().decode(bytes) !== "pack") throw fault("pack_rejected", "its digest is another");
      return { name: "p", tokens: 16, bytes: bytes.length };
    }
    async persist() {
      control.persisted++;
    }
    async clear() {
      this.#alone();
      control.inFlight++;
      await (control.hold ?? new Promise((resolve) => setTimeout(resolve, 5)));
      control.inFlight--;
      control.cleared = true;
    }
    destroyDeviceForTest() {
      control.destroyed = true;
    }
    free() {
      control.freed++;
    }
  }

  const judge = async (files) => {
    control.judged = files.map(({ name }) => name);
    await control.judge?.(files);
  };
  return { WasmEngine, Sha256, createOptions, judge, ...hubNames };
}

/** The options with their defaults, unchecked. */
function createOptions({ cache = {}, weights, context, kvTokens, kv, kernels }) {
  const { persist = true, budgetBytes = null, ttlMs = 30 * 24 * 60 * 60 * 1000, memoryBytes, salt = null } = cache || { persist: false, memoryBytes: 0 };
  return { settings: { context, kvTokens, kv, kernels, memoryBytes }, kv: persist ? { budgetBytes, ttlMs } : null, salt, caches: cache !== false, persistWeights: weights?.persist !== false };
}

/** The hub's names that tests use: `owner/repo`, and a file or a part of its name after a colon. */
export const hubNames = {
  hubName(text) {
    const [, repo, revision = "main", file = null] = /^([^:@]+)(?:@([^:]+))?(?::(.+))?$/.exec(text);
    return { repo, revision, file };
  },
  hubFile(text, files) {
    const { repo, file } = hubNames.hubName(text);
    const ggufs = files.filter((name) => name.endsWith(".gguf"));
    if (!file) return files.includes("config.json") ? undefined : ggufs[0];
    const found = ggufs.find((name) => name.toLowerCase().includes(file.toLowerCase()));
    if (!found) throw fault("bad_request", `model: ${repo} has no file ${file}; its GGUF files are ${ggufs}`, { field: "model" });
    return found;
  },
};
