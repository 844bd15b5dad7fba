/** Detects what the page's Content-Security-Policy forbids, since the errors of the failed calls do not tell. */

/** The longest that a browser takes to report a violation. */
const TOLD_MS = 100;

/** Listens from its creation until `stop`, in a page or a worker. */
export class Policy {
  readonly #forbidden: SecurityPolicyViolationEvent[] = [];
  readonly #listen = (event: Event) => void this.#forbidden.push(event as SecurityPolicyViolationEvent);

  constructor() {
    globalThis.addEventListener?.("securitypolicyviolation", this.#listen);
  }

  /** Whether this directive blocked something from `origin`, or from any origin. */
  async forbids(directive: "connect-src" | "worker-src", origin = ""): Promise<boolean> {
    await new Promise((resolve) => setTimeout(resolve, TOLD_MS));
    return this.#forbidden.some(({ effectiveDirective, blockedURI }) => effectiveDirective === directive && blockedURI.startsWith(origin));
  }

  stop(): void {
    globalThis.removeEventListener?.("securitypolicyviolation", this.#listen);
  }
}
