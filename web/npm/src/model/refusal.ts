/** Finds out why a page gets no response, if the cause is not the network. Then retries are useless. */

import { type ErrorCode, type ErrorFields, HeadstartError } from "../errors.js";
import { Policy } from "../policy.js";

const ANSWER_MS = 10_000;

/** The error for a request that failed with `cause` and would fail again; undefined if a retry may succeed. */
export async function refusal(url: string, cause: unknown): Promise<HeadstartError | undefined> {
  // There is no page in Node.
  if (!globalThis.location) return undefined;
  const { origin, protocol, hostname } = new URL(url);
  const refused = (code: ErrorCode, message: string, fields: ErrorFields = {}) =>
    new HeadstartError(code, `${url}: ${message}`, { url, ...fields }, cause);
  const policy = new Policy();
  try {
    // Any reachable server answers this request, whose response the page cannot read.
    const { type } = await fetch(url, { mode: "no-cors", method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    if (type !== "opaque") return undefined;
    const own = location.origin;
    return refused("cors", `${origin} does not let pages of ${own} read it; have it answer with Access-Control-Allow-Origin, or serve the file from ${own}`);
  } catch {
    if (await policy.forbids("connect-src", origin)) {
      return refused("csp", `this page's Content-Security-Policy forbids reading from ${origin}; add it to connect-src`, { directive: "connect-src" });
    }
    const isMixed = location.protocol === "https:" && protocol === "http:" && !/^(localhost|.*\.localhost|127\..*|\[::1\])$/.test(hostname);
    return isMixed ? refused("insecure", "a page from https may not read from plain http; serve the file over https") : undefined;
  } finally {
    policy.stop();
  }
}
