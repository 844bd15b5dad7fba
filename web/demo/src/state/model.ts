// The model: starting, absent, loading, ready or failed; and the next model while one is ready. Only this file creates and disposes of
// a Headstart.

import type { HeadstartInterface, Progress } from "headstart";
import { Headstart, listWeights, requireWebGpu } from "headstart/worker";
import { signal } from "@preact/signals";
import { Copies } from "./copies";
import { type Fault, faultOf, isAbort } from "./faults";
import { Pace } from "./pace";
import type { Settings } from "./settings";
import type { Tabs } from "./tabs";
import { absolute, isHubName } from "../text/name";

export type Address = { kind: "url"; url: string; packs?: readonly string[] };
export type Source = Address | { kind: "files"; files: readonly File[]; kept?: boolean };

export interface Loading {
  name: "loading";
  source: Source;
  progress: Progress | null;
  /** Speed of the download in bytes per second, if it is known. */
  pace: number | null;
  /** Whether all of it is in this browser already. */
  kept: boolean;
}

interface Failed {
  name: "failed";
  source: Source | null;
  fault: Fault;
}

export type Phase = { name: "starting" } | { name: "absent" } | Loading | { name: "ready"; source: Source; headstart: HeadstartInterface } | Failed;

/** The next model while another one answers: it is loading, or has failed. */
export type Next = Loading | Failed;

export interface Options {
  /** Opens the weights without keeping a copy in this browser. */
  copy: boolean;
  /** Tokens of context at most; the model's own where it is not given. */
  context?: number;
}

/** A download that was given up; what has arrived is kept. */
export interface GivenUp {
  source: Address;
  progress: Progress | null;
}

export const SHORT_CONTEXT = 1024;

/** What others know a model by that comes from an address. */
export const modelAt = (url: string) => `model ${absolute(url)}` as const;

export class Model {
  readonly phase = signal<Phase>({ name: "starting" });
  readonly next = signal<Next | null>(null);
  readonly givenUp = signal<GivenUp | null>(null);
  /** Resolves when the current model answers nothing. Then another one may replace it. */
  answering: Promise<unknown> = Promise.resolve();
  readonly #settings: Settings;
  readonly #tabs: Tabs;
  readonly #copies = new Copies();
  #loading: AbortController | null = null;

  constructor(settings: Settings, tabs: Tabs) {
    this.#settings = settings;
    this.#tabs = tabs;
  }

  /** Opens the model of the last visit, if there was one and this browser can run models. */
  async start(): Promise<void> {
    const fault = await obstacle();
    const url = this.#settings.choices.value.model;
    const files = url ? [] : await this.#copies.files();
    if (this.phase.value.name !== "starting") return;
    if (fault) this.phase.value = { name: "failed", source: null, fault };
    else if (url) await this.open({ kind: "url", url });
    else if (files.length > 0) await this.open({ kind: "files", files, kept: true });
    else this.phase.value = { name: "absent" };
  }

  get headstart(): HeadstartInterface | null {
    return this.phase.value.name === "ready" ? this.phase.value.headstart : null;
  }

  /** Opens a model. One that is ready answers until then, and stays where this fails. */
  async open(source: Source, options: Options = { copy: true }): Promise<void> {
    this.cancel();
    this.givenUp.value = null;
    const loading = new AbortController();
    this.#loading = loading;
    const current = () => this.#loading === loading;
    let state: Loading = { name: "loading", source, progress: null, pace: null, kept: false };
    const show = (more: Partial<Loading>) => {
      state = { ...state, ...more };
      if (current()) this.#show(state);
    };
    show({});
    void isKept(source).then((kept) => kept && show({ kept }));
    const pace = new Pace();
    const create = (tell: (progress: Progress, pace: number | null) => void) =>
      Headstart.create({
        model: source.kind === "files" ? [...source.files] : isHubName(source.url) ? source.url : new URL(absolute(source.url)),
        signal: loading.signal,
        weights: { persist: options.copy },
        ...(options.context ? { context: options.context } : {}),
        ...(source.kind === "url" && source.packs ? { prefixPacks: [...source.packs] } : {}),
        onProgress: (progress) => {
          const now = progress.stage === "download" ? pace.see(progress.loaded, performance.now()) : null;
          show({ progress, pace: now });
          tell(progress, now);
        },
      });
    try {
      const headstart = await (source.kind === "url" ? this.#tabs.show(modelAt(source.url), (tell) => create((progress, pace) => tell({ progress, pace }))) : create(() => undefined));
      if (!current()) return void (await headstart.dispose());
      this.#loading = null;
      const before = this.phase.value;
      this.next.value = null;
      this.phase.value = { name: "ready", source, headstart };
      if (before.name === "ready") void this.answering.finally(() => before.headstart.dispose()).catch(() => undefined);
      this.#settings.change({ model: source.kind === "url" ? source.url : null });
      if (source.kind === "url") await this.#copies.forget();
      else if (!source.kept && options.copy) await this.#copies.keep(source.files);
    } catch (thrown) {
      if (!current()) return;
      this.#loading = null;
      if (isAbort(thrown)) this.#show(null);
      else this.#show({ name: "failed", source, fault: faultOf(thrown) });
    }
  }

  /** Stops loading, or dismisses a failure. A ready model stays. */
  cancel(): void {
    const state = this.next.value ?? this.phase.value;
    if ((state.name === "loading" || state.name === "failed") && state.source?.kind === "url") {
      const progress = state.name === "loading" && state.progress?.stage === "download" && !state.kept ? state.progress : null;
      this.givenUp.value = { source: state.source, progress };
    }
    this.#loading?.abort();
    this.#loading = null;
    this.#show(null);
  }

  /** Shows the state of the requested model, beside the ready one if there is one. */
  #show(state: Next | null): void {
    if (this.phase.value.name === "ready") this.next.value = state;
    else this.phase.value = state ?? { name: "absent" };
  }

  /** Closes the model and does not open it again on the next visit. */
  async forget(): Promise<void> {
    this.#settings.change({ model: null });
    await this.close();
    await this.#copies.forget();
  }

  /** The engine is gone for good: what it was doing failed with `fault`. */
  fail(fault: Fault): void {
    const phase = this.phase.value;
    if (phase.name !== "ready") return;
    this.phase.value = this.next.value ?? { name: "failed", source: phase.source, fault };
    this.next.value = null;
    void phase.headstart.dispose().catch(() => undefined);
  }

  async close(): Promise<void> {
    const phase = this.phase.value;
    this.cancel();
    this.phase.value = { name: "absent" };
    if (phase.name === "ready") await phase.headstart.dispose();
  }
}

/** Checks that this browser can run models, before a useless download. */
async function obstacle(): Promise<Fault | null> {
  if (!isSecureContext) return faultOf({ code: "insecure", message: location.origin });
  return requireWebGpu().then(() => null, faultOf);
}

async function isKept(source: Source): Promise<boolean> {
  if (source.kind === "files") return true;
  const address = absolute(source.url);
  return (await listWeights().catch(() => [])).some(({ source, complete }) => complete && source === address);
}
