// The tiny Qwen 3, Gemma 3 and LFM2 in the shipped page, in each browser: shards chosen together, the address of a first
// shard, and that of a whole file. One page, which changes from model to model.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { BROWSERS, open } from "../../../../tests/browser/browsers.mjs";
import { HELLOS, chatGguf } from "../../../npm/test/support/gguf.mjs";
import { serve } from "../browser.mjs";

const DIST = fileURLToPath(new URL("../../dist", import.meta.url));
const SHARDS = { "tiny-qwen3-f16": 2, "tiny-gemma3-f16": 2, "tiny-lfm2-f16": 1 };
/** The file names of each model. */
const names = {};
let folder;
let server;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "headstart-models-"));
  const paths = {};
  for (const [model, shards] of Object.entries(SHARDS)) {
    const files = chatGguf(model, shards);
    names[model] = Object.keys(files);
    for (const [name, bytes] of Object.entries(files)) writeFileSync((paths[name] = join(folder, name)), bytes);
  }
  server = await serve(DIST, paths);
});
after(async () => {
  await server?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Actions in the page. Each ends when the next one has something to act on. */
const steps = {
  settle: () => localStorage.setItem("headstart.settings", JSON.stringify({ system: "", temperature: 0, maxTokens: 8 })),

  change: () => [...document.querySelectorAll(".model-status button")].find(({ textContent }) => textContent === "Change")?.click(),

  async choose(names) {
    globalThis.wanted = names[0];
    const chosen = new DataTransfer();
    for (const name of names) chosen.items.add(new File([await (await fetch(`../${name}`)).blob()], name));
    const field = document.querySelector('[aria-label="Choose a model file"]');
    field.files = chosen.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
  },

  download(name) {
    globalThis.wanted = name;
    const field = document.querySelector('[placeholder="Address of a GGUF file"]');
    field.value = `../${name}`;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    requestAnimationFrame(() => field.form.requestSubmit());
  },

  write() {
    [...document.querySelectorAll(".sidebar button")].find(({ textContent }) => textContent === "New conversation").click();
    const field = document.getElementById("composer");
    field.value = "hello there";
    field.dispatchEvent(new Event("input", { bubbles: true }));
  },

  send: () => document.querySelector(".send").click(),
  isOpen: () => document.querySelector(".model-place input, .fault") !== null,
  // Until then the page has the previous model.
  isReady: () =>
    document.querySelector(".fault") !== null ||
    (document.querySelector(".lamp.good") !== null &&
      document.querySelector(".model-place progress") === null &&
      document.querySelector(".model-status strong")?.textContent === globalThis.wanted),
  isWritten: () => document.querySelector('.send[aria-label="Send"]:not(:disabled)') !== null && document.querySelector(".answer") === null,
  isAnswered: () => document.querySelector(".answer:not([aria-busy=true])") !== null,
  model: () => document.querySelector(".fault")?.textContent ?? document.querySelector(".model-status strong").textContent,
  answer: () => document.querySelector(".answer .prose")?.textContent.trim() ?? document.querySelector(".answer").textContent,
};

for (const browser of BROWSERS) {
  test(`each opens and answers, ${browser}`, { timeout: 600_000 }, async () => {
    const { page, close } = await open(browser);
    const faults = [];
    page.on("pageerror", (error) => faults.push(String(error)));
    page.setDefaultTimeout(240_000);
    const act = (step, argument) => page.evaluate(steps[step], argument);
    const until = (step) => page.waitForFunction(steps[step]);
    try {
      await page.goto(server.page);
      await act("settle");
      await page.reload();
      for (const [index, [model, files]] of Object.entries(names).entries()) {
        if (index > 0) await act("change");
        await until("isOpen");
        if (index === 0) await act("choose", files);
        else await act("download", files[0]);
        await until("isReady");
        assert.equal(await act("model"), files[0]);
        await act("write");
        await until("isWritten");
        await act("send");
        await until("isAnswered");
        assert.equal(await act("answer"), HELLOS[model]);
      }
      assert.deepEqual(faults, []);
    } finally {
      await close();
    }
  });
}
