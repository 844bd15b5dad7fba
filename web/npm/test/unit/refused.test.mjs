// Refusals of a page, a server or a policy: each has its own code, comes at once, and says what helps.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Download } from "../../dist/model/download.js";
import { loadWasm } from "../../dist/wasm/load.js";
import { Headstart } from "../../dist/worker.js";
import { installBrowser } from "../support/fakes.mjs";

const URL_OF_MODEL = "https://models.example/m.gguf";
const { fetch, Worker } = globalThis;
let asked, listeners;

/** A page at this address. `answer` returns the response to a request, by its options; `undefined` is a failure without details. */
function page(origin, answer) {
  globalThis.location = { origin, href: `${origin}/`, protocol: new URL(origin).protocol };
  globalThis.fetch = async (url, options) => {
    asked.push(options.mode ?? options.method ?? "GET");
    const given = answer(options);
    if (given === undefined) throw new TypeError("Failed to fetch");
    return given;
  };
}

const violate = (effectiveDirective, blockedURI) => setTimeout(() => listeners.forEach((listen) => listen({ effectiveDirective, blockedURI })), 5);
const opened = () => Download.open(URL_OF_MODEL, 0, {}, {});

beforeEach(() => {
  installBrowser();
  asked = [];
  listeners = new Set();
  globalThis.addEventListener = (type, listen) => type === "securitypolicyviolation" && listeners.add(listen);
  globalThis.removeEventListener = (_, listen) => listeners.delete(listen);
});
afterEach(() => {
  assert.equal(listeners.size, 0, "somebody still listens");
  Object.assign(globalThis, { fetch, Worker });
  for (const name of ["location", "addEventListener", "removeEventListener", "trustedTypes"]) delete globalThis[name];
});

test("a server that refuses other origins is reported as such, without retries", async () => {
  page("https://page.example", ({ mode }) => (mode === "no-cors" ? { type: "opaque" } : undefined));
  await assert.rejects(opened(), { code: "cors", url: URL_OF_MODEL, message: /models\.example does not let pages of https:\/\/page\.example .*Access-Control-Allow-Origin/ });
  assert.deepEqual(asked, ["GET", "GET", "no-cors"]);
});

test("a dropped connection is retried, also where the server can be reached a moment later", async () => {
  let failures = 3;
  page("https://page.example", ({ mode }) => (mode === "no-cors" || failures-- > 0 ? undefined : new Response("model", { headers: { "content-length": "5" } })));
  assert.equal(Buffer.from(await (await opened()).peek(0, 5)).toString(), "model");
  assert.deepEqual(asked, ["GET", "GET", "no-cors", "GET", "GET"]);
  // Of the page's own origin, or readable: CORS is not the cause.
  failures = 2;
  asked.length = 0;
  page("https://page.example", ({ mode }) => (mode === "no-cors" ? { type: "basic" } : failures-- > 0 ? undefined : new Response("model")));
  (await opened()).close();
  assert.deepEqual(asked, ["GET", "GET", "no-cors", "GET"]);
});

test("a policy that forbids the address is reported with its directive", async () => {
  page("https://page.example", () => void violate("connect-src", URL_OF_MODEL));
  await assert.rejects(opened(), { code: "csp", directive: "connect-src", message: /Content-Security-Policy.*https:\/\/models\.example.*connect-src/ });
});

test("a page from https cannot read plain http", async () => {
  page("https://page.example", () => undefined);
  await assert.rejects(Download.open("http://models.example/m.gguf", 0, {}, {}), { code: "insecure", message: /over https/ });
});

test("WebAssembly that must not be compiled, and a missing module", async () => {
  const { Module } = WebAssembly;
  await assert.rejects(loadWasm(new Uint8Array([1, 2, 3])), { code: "download", message: /headstart_bg\.wasm/ });
  WebAssembly.Module = class {
    constructor() {
      throw new WebAssembly.CompileError("blocked by CSP");
    }
  };
  try {
    await assert.rejects(loadWasm(new Uint8Array([1, 2, 3])), { code: "csp", directive: "script-src", message: /wasm-unsafe-eval/ });
  } finally {
    WebAssembly.Module = Module;
  }
});

test("a worker that is forbidden, not trusted, of another origin, or missing", async () => {
  const create = () => Headstart.create({ model: new Blob(["m"]) });
  class Silent {
    postMessage() {
      setTimeout(() => this.onerror({ message: "" }), 5);
    }
    terminate() {}
  }
  const fails = (error) => class {
    constructor() {
      throw error;
    }
  };
  globalThis.Worker = Silent;
  await assert.rejects(create(), { code: "worker", message: /did not load.*own origin/ });
  globalThis.Worker = class extends Silent {
    constructor() {
      super();
      violate("worker-src", "https://page.example/worker-entry.js");
    }
  };
  await assert.rejects(create(), { code: "csp", directive: "worker-src", message: /worker-src.*which needs none/ });
  globalThis.Worker = fails(Object.assign(new Error("cannot be accessed from origin"), { name: "SecurityError" }));
  await assert.rejects(create(), { code: "worker", message: /cannot be accessed.*own origin/ });
  globalThis.trustedTypes = {};
  globalThis.Worker = fails(new TypeError("This document requires 'TrustedScriptURL' assignment"));
  await assert.rejects(create(), { code: "trusted_types", message: /default policy/ });
});

test("nothing is packed without the engine", () => {
  const folder = mkdtempSync(join(tmpdir(), "headstart pack-"));
  try {
    cpSync(fileURLToPath(new URL("../../scripts", import.meta.url)), join(folder, "scripts"), { recursive: true });
    cpSync(fileURLToPath(new URL("../../package.json", import.meta.url)), join(folder, "package.json"));
    const packed = () => execFileSync("npm", ["pack", "--loglevel=error"], { cwd: folder, encoding: "utf8", stdio: "pipe" });
    assert.throws(packed, (error) => /make wasm/.test(error.stderr + error.stdout));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
