// The time that this machine takes to read a prompt token, by model, so that the first answer after a reload can also tell what reuse
// saved. A longer prompt gives a better measurement, which a much shorter one does not replace.

const KEY = "headstart.rates";
/** Models remembered. */
const MOST = 16;

interface Rate {
  ms: number;
  tokens: number;
}

export class Rates {
  #known: Record<string, Rate> = read();

  measure(model: string, tokens: number, tokensPerSecond: number): void {
    const old = this.#known[model];
    if (!(tokensPerSecond > 0) || (old && tokens < old.tokens / 2)) return;
    const { [model]: _, ...others } = this.#known;
    const kept = Object.entries(others).slice(1 - MOST);
    this.#known = { ...Object.fromEntries(kept), [model]: { ms: 1000 / tokensPerSecond, tokens } };
    try {
      localStorage.setItem(KEY, JSON.stringify(this.#known));
    } catch {
      // It is measured again on the next visit.
    }
  }

  /** Milliseconds that reading `tokens` would take; null before the first measurement. */
  expected(model: string, tokens: number): number | null {
    const ms = this.#known[model]?.ms;
    return typeof ms === "number" && ms > 0 ? tokens * ms : null;
  }
}

function read(): Record<string, Rate> {
  try {
    return { ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return {};
  }
}
