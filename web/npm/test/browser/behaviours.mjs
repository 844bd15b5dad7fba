// The package's promises in a browser, each as one function over a small driver, so that any harness can run them:
//   newSite(change) -> site  the same pages under another policy, which `change` makes from the site's
//   newPage(site) -> page    a page of one profile at the site, with `evaluate(function, argument)`, `reload()`, `close()`
//   server, behaviour, files the model server of test/support/server.mjs, on an origin of its own
//   real, systemTokens       whether /real.gguf on the server is the default model, and the length of its system prompt
//   setQuota(bytes)          limits what the origin can store; the behaviours in `needsQuota` need it
// /model/ and /shallow/ have the models of test/support/tiny.mjs, /lfm2/ a tiny LFM2 in the same way, /small/ the model of small.mjs,
// /qwen3/ and /gemma3/ the shards of tiny GGUF models by gguf.mjs. Storage is empty at the beginning of each.
import assert from "node:assert/strict";
import { HELLOS } from "../support/gguf.mjs";
import { abortsPrompt, disposesInPrompt } from "../support/long-prompt.mjs";

/** The native engine's first tokens after "hello there", without and with this system prompt. */
const HELLO = "JJJJGC\u000b<w309>";
const SYSTEM = "You are a helpful assistant that answers in one short sentence and never in two. ".repeat(3).trim();

const call = (page, name, argument) => page.evaluate(([name, argument]) => window.calls[name](argument), [name, argument]);
async function ok(page, name, argument) {
  const { value, error } = await call(page, name, argument);
  assert.equal(error, undefined, JSON.stringify(error));
  return value;
}
async function fails(page, code, name, argument) {
  const { error } = await call(page, name, argument);
  assert.equal(error?.code, code, JSON.stringify(error));
  return error;
}
const greeting = { content: "hello there", max_tokens: 8 };

export const behaviours = {
  async "answers in the page and in a worker as the native engine does"({ newPage, url, say }) {
    const page = await newPage();
    for (const variant of ["thread", "worker"]) {
      const { download, upload, compile } = await ok(page, "open", { variant, model: { url } });
      for (const { loaded, total } of [download, upload, compile]) assert.ok(loaded === total && total > 0);
      const { text, usage, finish_reason } = await ok(page, "answer", greeting);
      assert.deepEqual([text, usage.prompt_tokens, usage.completion_tokens, finish_reason], [HELLO, 29, 8, "length"]);
      assert.equal((await ok(page, "tokens", "häh?")).text, "häh?");
    }
    const contents = ["hello there", "what is this", "a third and longer question"];
    const together = await ok(page, "several", contents);
    await ok(page, "clear");
    for (const [index, content] of contents.entries()) assert.equal((await ok(page, "answer", { content })).text, together[index].text);
    const { frames, longest, ms } = await ok(page, "frames", { max_tokens: 24 });
    say(`${frames} frames in ${Math.round(ms)} ms beside a worker's answer, the longest ${Math.round(longest)} ms`);
    assert.ok(frames > 0);
  },

  async "downloads once, and on the next visit finds the weights and the KV on its own disk"({ newPage, url, server }) {
    const page = await newPage();
    const { digest } = await ok(page, "open", { model: { url } });
    const prompt = { ...greeting, system: SYSTEM };
    const cold = await ok(page, "answer", prompt);
    assert.equal(cold.usage.prompt_tokens_details.cached_tokens, 0);
    const sent = server.sent();
    // The first visit ends while a prompt is read.
    await disposesInPrompt((name, argument) => ok(page, name, argument), async () => {
      await page.reload();
      const again = await ok(page, "open", { model: { url } });
      assert.equal(again.digest, digest);
      assert.equal(server.sent(), sent);
    });
    const warm = await ok(page, "answer", prompt);
    assert.equal(warm.text, cold.text);
    assert.ok(warm.sources.disk >= 240, JSON.stringify(warm.sources));
    assert.equal(warm.usage.prompt_tokens_details.cached_tokens, warm.usage.prompt_tokens - warm.sources.computed);
    const hot = await ok(page, "answer", prompt);
    assert.ok(hot.sources.gpu >= 240, JSON.stringify(hot.sources));
    assert.equal(hot.text, cold.text);
    const { store } = await ok(page, "stats");
    assert.ok(store.name === "opfs" && store.entries > 0 && store.failures === 0);
  },

  async "answers on the second visit sooner than on the first"({ newPage, server, real, systemTokens, say }) {
    const model = { url: `${server.origin}/${real ? "real.gguf" : "small/"}` };
    const page = await newPage();
    // A word and a full stop are two tokens; of the small model, each letter is one.
    const system = "Apple. ".repeat(systemTokens / (real ? 2 : 7) + 1);
    const ask = (content) => ok(page, "answer", { content, system, max_tokens: 4 });
    const open = () => ok(page, "open", { model });
    const { download } = await open();
    const first = await ask("Ripe?");
    const { prompt_tokens } = first.usage;
    assert.ok(prompt_tokens >= systemTokens, `${prompt_tokens} tokens`);
    assert.equal(first.sources.computed, prompt_tokens);
    await ok(page, "dispose");
    const sent = server.sent();
    assert.ok(sent >= download.total && download.loaded === download.total);
    await page.reload();
    assert.equal((await open()).download.loaded, download.loaded);
    assert.equal(server.sent(), sent, "the weights were downloaded again");
    const second = await ask("Red?");
    assert.ok(second.sources.disk >= systemTokens, JSON.stringify(second.sources));
    const again = await ask("Ripe?");
    assert.equal(again.text, first.text);
    assert.equal(again.sources.computed, 0, JSON.stringify(again.sources));
    const [cold, warm] = [first, second].map(({ timings }) => timings.ttft_ms);
    const ratio = warm / cold;
    say(`${prompt_tokens} tokens: ${Math.round(cold)} ms to the first token, on the second visit ${Math.round(warm)}: ${ratio.toFixed(3)}`);
    assert.ok(ratio <= 0.35, `${ratio}`);
  },

  async "goes on with a conversation after a reload, without a dispose, and forgets it on clear"({ newPage, url }) {
    const page = await newPage();
    await ok(page, "open", { model: { url } });
    const messages = [{ role: "system", content: "Be brief." }];
    // An answer of the letter a alone, so that tokenizing it gives the generated tokens.
    const ask = async (content) => {
      messages.push({ role: "user", content });
      const answer = await ok(page, "answer", { messages, max_tokens: 8, logit_bias: { 100: 100 } });
      assert.equal(answer.text, "a".repeat(8));
      messages.push({ role: "assistant", content: answer.text });
      return answer;
    };
    let last;
    for (let turn = 1; turn <= 5; turn++) last = await ask(`And in chapter ${turn}?`);
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 1500)));
    await page.reload();
    await ok(page, "open", { model: { url } });
    const { sources } = await ask("Who is left?");
    // All that any turn computed: nothing follows the last token of an answer.
    assert.equal(sources.disk, last.usage.prompt_tokens + 7, JSON.stringify(sources));
    await ok(page, "clear");
    const computed = await ok(page, "answer", { messages: messages.slice(0, -1), max_tokens: 1 });
    assert.equal(computed.sources.computed, computed.usage.prompt_tokens);
    await ok(page, "clear");
    assert.deepEqual((await page.evaluate(() => window.calls.kept())).filter(({ path }) => path.includes("/kv/")), []);
  },

  async "keeps both in IndexedDB where there is no private file system"({ newPage, url, server }) {
    const page = await newPage();
    const open = async () => {
      await page.evaluate(() => window.calls.withoutOpfs());
      await ok(page, "open", { variant: "thread", model: { url } });
    };
    await open();
    const { text } = await ok(page, "answer", { ...greeting, system: SYSTEM });
    assert.equal((await ok(page, "stats")).store.name, "indexeddb");
    await ok(page, "dispose");
    const sent = server.sent();
    await page.reload();
    await open();
    assert.equal(server.sent(), sent);
    const again = await ok(page, "answer", { ...greeting, system: SYSTEM });
    assert.equal(again.text, text);
    assert.ok(again.sources.disk >= 240, JSON.stringify(again.sources));
    assert.deepEqual(await page.evaluate(() => window.calls.kept()), []);
  },

  async "leaves nothing behind when told to"({ newPage, url }) {
    const page = await newPage();
    await ok(page, "open", { model: { url }, cache: false, weights: { persist: false } });
    for (let round = 0; round < 2; round++) {
      const { text, usage } = await ok(page, "answer", { ...greeting, system: SYSTEM });
      assert.equal(usage.prompt_tokens_details.cached_tokens, 0);
      assert.ok(text);
    }
    await ok(page, "dispose");
    assert.deepEqual(await page.evaluate(() => window.calls.kept()), []);
  },

  async "ends an answer by leaving, aborting and signalling, also in its prompt, and keeps its pages"({ newPage, server }) {
    const page = await newPage();
    await ok(page, "open", { model: { url: `${server.origin}/shallow/` }, cache: { persist: false } });
    const { text } = await ok(page, "answer", greeting);
    assert.equal((await ok(page, "stream", { content: "leave", system: SYSTEM, act: "leave" })).pieces, 3);
    const aborted = await ok(page, "stream", { content: "leave", system: SYSTEM, act: "abort" });
    assert.equal(aborted.finish, "cancelled");
    assert.ok(aborted.usage.completion_tokens < 64);
    assert.ok(aborted.sources.gpu >= 240, JSON.stringify(aborted.sources));
    await fails(page, "aborted", "stream", { content: "signal", act: "signal" });
    await abortsPrompt((name, argument) => ok(page, name, argument));
    assert.equal((await ok(page, "answer", greeting)).text, text);
    assert.equal((await ok(page, "stats")).pages.used, 0);
  },

  async "goes on with the same tokens when the device is lost"({ newPage, url, server }) {
    const page = await newPage();
    await ok(page, "open", { model: { url } });
    const prompt = { content: "lost", system: SYSTEM, temperature: 1, seed: 7, max_tokens: 16 };
    const whole = await ok(page, "stream", prompt);
    const sent = server.sent();
    const { text, recovered, finish, usage } = await ok(page, "stream", { ...prompt, act: "lose", after: 5 });
    assert.deepEqual([text, recovered, finish, usage.completion_tokens], [whole.text, 1, whole.finish, whole.usage.completion_tokens]);
    await ok(page, "lose");
    assert.equal((await ok(page, "answer", greeting)).text, HELLO);
    assert.equal(server.sent(), sent);
  },

  async "takes a model in shards by the first, over cut connections, and from servers without ranges"({ newPage, server, behaviour, files }) {
    const [first, second] = Object.keys(files).filter((path) => path.startsWith("/gemma3/"));
    const url = `${server.origin}${first}`;
    const takesUp = async (page) => {
      Object.assign(behaviour, { cutAfter: 100_000, cuts: 3, cut: {} });
      const { download, digest } = await ok(page, "open", { model: { url } });
      assert.deepEqual([download.loaded, download.total], Array(2).fill(files[first].length + files[second].length));
      assert.ok(server.log.some(({ range, path }) => range && path === second));
      const kept = (await ok(page, "weights")).filter(({ source }) => source.includes("/gemma3/"));
      assert.deepEqual(kept.map(({ source, size, complete }) => [source, size, complete]), [[url, download.total, true]]);
      await ok(page, "clearWeights", url);
      Object.assign(behaviour, { ranges: false, cutAfter: 100_000, cuts: 1, cut: {} });
      assert.equal((await ok(page, "open", { model: { url } })).digest, digest);
      assert.equal((await ok(page, "answer", greeting)).text, HELLOS["tiny-gemma3-f16"]);
    };
    // It mostly waits between its tries.
    const givesUp = async (page) => {
      behaviour.broken = "/small/";
      await fails(page, "download", "open", { model: { url: `${server.origin}/small/` } });
    };
    await Promise.all([givesUp(await newPage()), takesUp(await newPage())]);
  },

  async "takes files and WebAssembly in every form, and says what is wrong with a file or a request"({ newPage, server, files }) {
    const page = await newPage();
    const at = (folder) => `${server.origin}/${folder}/`;
    const names = (folder) => Object.keys(files).filter((path) => path.startsWith(`/${folder}/`)).map((path) => path.slice(folder.length + 2));
    const takes = async (form, hello) => {
      await ok(page, "open", { ...form, cache: { persist: false } });
      await fails(page, "bad_request", "answer", { content: "x", temperature: -1 });
      await fails(page, "bad_request", "answer", { content: "x".repeat(5000) });
      assert.equal((await ok(page, "tokens", "täglich")).text, "täglich");
      assert.equal((await ok(page, "answer", greeting)).text, hello);
      await ok(page, "dispose");
      assert.deepEqual((await page.evaluate(() => window.calls.kept())).filter(({ path }) => path.includes("weights/")), []);
    };
    // This comes first, since the page's own thread keeps the module that it gets.
    await takes({ variant: "thread", wasm: "bytes", model: { blobOf: at("lfm2"), files: names("lfm2") } }, HELLOS["tiny-lfm2-f16"]);
    for (const variant of ["thread", "worker"]) {
      await fails(page, "bad_model", "open", { variant, model: { bytes: Array.from({ length: 1000 }, (_, index) => index % 256) } });
      await fails(page, "bad_model", "open", { variant, model: { bytes: [...new TextEncoder().encode("GGUF"), 3, 0, 0, 0, ...Array(64).fill(255)] } });
      const { status, url } = await fails(page, "http_status", "open", { variant, model: { url: `${server.origin}/none.gguf` } });
      assert.deepEqual([status, url], [404, `${server.origin}/none.gguf`]);
      await fails(page, "bad_input", "open", { variant, model: { urls: [] } });
    }
    await takes({ variant: "worker", wasm: "module", model: { streamOf: at("qwen3"), files: names("qwen3").reverse() } }, HELLOS["tiny-qwen3-f16"]);
  },

  async "says what a server or a policy forbids, each by its code"({ newPage, newSite, behaviour, url }) {
    const first = await newPage();
    behaviour.cors = false;
    for (const variant of ["thread", "worker"]) {
      await fails(first, "cors", "open", { variant, model: { url } });
      const { directive } = await fails(first, "csp", "open", { variant, model: { url: "http://127.0.0.1:1/m.gguf" } });
      assert.equal(directive, "connect-src");
    }
    const forbids = {
      "script-src": [["thread", "worker"], (policy) => policy.replace("'wasm-unsafe-eval'", "")],
      "worker-src": [["worker"], (policy) => policy.replace("worker-src 'self'", "worker-src 'none'")],
    };
    for (const [directive, [variants, change]] of Object.entries(forbids)) {
      const page = await newPage(await newSite(change));
      for (const variant of variants) assert.equal((await fails(page, "csp", "open", { variant, model: { url } })).directive, directive);
    }
    const page = await newPage(await newSite((policy) => `${policy}; require-trusted-types-for 'script'`));
    if (await page.evaluate(() => "trustedTypes" in window)) await fails(page, "trusted_types", "open", { model: { url } });
  },

  async "shares one disk between two tabs"({ newPage, url, server, files }) {
    const [first, second] = [await newPage(), await newPage()];
    await Promise.all([ok(first, "open", { model: { url } }), ok(second, "open", { model: { url } })]);
    const whole = Object.entries(files).reduce((sum, [path, bytes]) => sum + (path.startsWith("/model/") ? bytes.length : 0), 0);
    assert.equal(server.sent(), whole);
    const prompt = { ...greeting, system: SYSTEM };
    const { text } = await ok(first, "answer", prompt);
    await ok(first, "dispose");
    const other = await ok(second, "answer", prompt);
    assert.equal(other.text, text);
    assert.ok(other.sources.disk >= 240, JSON.stringify(other.sources));
  },

  async "survives a page that is closed while it writes"({ newPage, url, behaviour }) {
    const first = await newPage();
    Object.assign(behaviour, { cutAfter: 100_000, cuts: Infinity, cut: {} });
    const opening = call(first, "open", { model: { url } }).catch(() => "closed");
    await first.evaluate(() => new Promise((resolve) => setTimeout(resolve, 500)));
    await first.close();
    await opening;
    behaviour.cutAfter = undefined;
    const second = await newPage();
    await ok(second, "open", { model: { url } });
    const prompt = { ...greeting, system: SYSTEM };
    const { text } = await ok(second, "answer", prompt);
    // Closed at once, with KV half written.
    await second.close();
    const third = await newPage();
    await ok(third, "open", { model: { url } });
    assert.equal((await ok(third, "answer", prompt)).text, text);
    assert.equal((await ok(third, "stats")).store.failures, 0);
  },

  async "says when there is too little room, and loads without a copy"({ newPage, url, setQuota }) {
    const page = await newPage();
    await setQuota(500_000);
    const { asked, available } = await fails(page, "quota_exceeded", "open", { model: { url } });
    assert.ok(asked > 0 && (available === undefined || available < asked), `${asked} of ${available}`);
    await ok(page, "open", { model: { url }, weights: { persist: false } });
    assert.equal((await ok(page, "answer", greeting)).text, HELLO);
  },

  async "gives a prefix away as a file, and takes none that is not whole"({ newPage, url, server, files }) {
    const page = await newPage();
    await ok(page, "open", { model: { url }, cache: { persist: false } });
    await ok(page, "warm", { content: "hello there", system: SYSTEM });
    const { text } = await ok(page, "answer", { ...greeting, system: SYSTEM });
    const pack = await ok(page, "pack", { content: "hello there", system: SYSTEM, name: "greeting" });
    files["/pack"] = Buffer.from(pack);
    await ok(page, "open", { model: { url }, cache: { persist: false }, prefixPacks: [`${server.origin}/pack`, `${server.origin}/none`] });
    const { packs } = await ok(page, "stats");
    assert.equal(packs[0].name, "greeting");
    assert.equal(packs[1].error.code, "http_status");
    const reused = await ok(page, "answer", { ...greeting, system: SYSTEM });
    assert.equal(reused.text, text);
    assert.ok(reused.sources.pack >= 240, JSON.stringify(reused.sources));
    pack[pack.length - 1] ^= 1;
    await fails(page, "pack_rejected", "importPack", pack);
    assert.equal((await ok(page, "loadPack", `${server.origin}/pack`)).name, "greeting");
  },
};

/** Behaviours that need a driver that can set the quota. */
export const needsQuota = ["says when there is too little room, and loads without a copy"];
