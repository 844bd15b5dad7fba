// The person's settings, kept in localStorage for all tabs. Unknown or damaged values fall back to the defaults.

import { signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

export interface Choices {
  theme: Theme;
  system: string;
  temperature: number;
  maxTokens: number;
  /** Whether prompts are looked up in and added to the prefix cache. */
  cache: boolean;
  /** Address of the model opened last, opened again on the next visit. */
  model: string | null;
}

export const DEFAULTS: Choices = {
  theme: "system",
  system: "You are a helpful assistant.",
  temperature: 0.7,
  maxTokens: 512,
  cache: true,
  model: null,
};

const KEY = "headstart.settings";

export class Settings {
  readonly choices = signal<Choices>(read() ?? DEFAULTS);

  constructor() {
    this.#paint();
    addEventListener("storage", ({ key }) => {
      if (key !== KEY) return;
      this.choices.value = read() ?? this.choices.value;
      this.#paint();
    });
  }

  change(patch: Partial<Choices>): void {
    this.choices.value = checked({ ...(read() ?? this.choices.value), ...patch });
    try {
      localStorage.setItem(KEY, JSON.stringify(this.choices.value));
    } catch {
      // A browser that keeps nothing still lets people choose for this visit.
    }
    this.#paint();
  }

  #paint(): void {
    const { theme } = this.choices.value;
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }
}

/** Null where nothing is kept that can be read. */
function read(): Choices | null {
  try {
    const kept = localStorage.getItem(KEY);
    return kept ? checked({ ...DEFAULTS, ...JSON.parse(kept) }) : null;
  } catch {
    return null;
  }
}

function checked(found: Choices): Choices {
  const number = (value: unknown, low: number, high: number, otherwise: number) =>
    typeof value === "number" && Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : otherwise;
  return {
    theme: ["system", "light", "dark"].includes(found.theme) ? found.theme : DEFAULTS.theme,
    system: typeof found.system === "string" ? found.system : DEFAULTS.system,
    temperature: number(found.temperature, 0, 2, DEFAULTS.temperature),
    maxTokens: Math.round(number(found.maxTokens, 1, 32768, DEFAULTS.maxTokens)),
    cache: typeof found.cache === "boolean" ? found.cache : DEFAULTS.cache,
    model: typeof found.model === "string" ? found.model : null,
  };
}
