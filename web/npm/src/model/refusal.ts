/** Why a page gets no answer at all, where that is not the network: then asking again is of no use. */

import { type ErrorCode, type ErrorFields, HeadstartError } from "../errors.js";
import { Policy } from "../policy.js";

const ANSWER_MS = 10_000;

/** The error to throw for a request that failed with `cause` and would fail again; undefined where it may not. */
export async function refusal(url: string, cause: unknown): Promise<HeadstartError | undefined> {
  // Node has no page that could be refused.
  if (!globalThis.location) return undefined;
  const { origin, protocol, hostname } = new URL(url);
  const refused = (code: ErrorCode, message: string, fields: ErrorFields = {}) =>
    new HeadstartError(code, `${url}: ${message}`, { url, ...fields }, cause);
  const policy = new Policy();
  try {
    // Where there is a server at all it answers this one, which nobody may read.
    const { type } = await fetch(url, { mode: "no-cors", method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    if (type !== "opaque") return undefined;
    const own = location.origin;
    return refused("cors", `${origin} does not let pages of ${own} read it; have it answer with Access-Control-Allow-Origin, or serve the file from ${own}`);
  } catch {
    if (await policy.forbids("connect-src", origin)) {
      return refused("csp", `this page's Content-Security-Policy forbids to read from ${origin}; add it to connect-src`, { directive: "connect-src" });
    }
    const isMixed = location.protocol === "https:" && protocol === "http:" && !/^(localhost|.*\.localhost|127\..*|\[::1\])$/.test(hostname);
    return isMixed ? refused("insecure", "a page from https may not read from plain http; serve the file over https") : undefined;
  } finally {
    policy.stop();
  }
}
