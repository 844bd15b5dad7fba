/** What the page's Content-Security-Policy forbids, which the error of what was tried does not say. */

/** How long a browser takes at most to tell of it. */
const TOLD_MS = 100;

/** Listens from when it is made, in a page or a worker, to `stop`. */
export class Policy {
  readonly #forbidden: SecurityPolicyViolationEvent[] = [];
  readonly #listen = (event: Event) => void this.#forbidden.push(event as SecurityPolicyViolationEvent);

  constructor() {
    globalThis.addEventListener?.("securitypolicyviolation", this.#listen);
  }

  /** Whether it kept something of `origin`, or of any, from being done by this directive. */
  async forbids(directive: "connect-src" | "worker-src", origin = ""): Promise<boolean> {
    await new Promise((resolve) => setTimeout(resolve, TOLD_MS));
    return this.#forbidden.some(({ effectiveDirective, blockedURI }) => effectiveDirective === directive && blockedURI.startsWith(origin));
  }

  stop(): void {
    globalThis.removeEventListener?.("securitypolicyviolation", this.#listen);
  }
}
