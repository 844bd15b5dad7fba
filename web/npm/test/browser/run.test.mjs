// The behaviours in each browser. `BROWSERS=firefox` and `ONLY=visit` narrow them, `VERBOSE=1` prints every call.
import { after, before, describe, test } from "node:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BROWSERS, open } from "../../../../tests/browser/browsers.mjs";
import { chatGguf } from "../support/gguf.mjs";
import { serve } from "../support/server.mjs";
import { serveFolders } from "../support/site.mjs";
import { smallModel } from "../support/small.mjs";
import { shallowModel, tinyModel } from "../support/tiny.mjs";
import { behaviours, needsQuota } from "./behaviours.mjs";

const DIST = fileURLToPath(new URL("../../dist", import.meta.url));
const read = (name) => readFileSync(new URL(name, import.meta.url));
const PAGE = { "index.html": read("index.html"), "page.mjs": read("page.mjs"), "read-prompt.mjs": read("../support/read-prompt.mjs") };
const MODEL = new URL("../../../../models/SmolLM2-135M-Instruct.Q4_1.gguf", import.meta.url);
/** The default model is slow in Chromium, so it is used there only with `REAL=1`. */
const real = (name) => name === "firefox" || process.env.REAL === "1";
/** A prompt so long that its prefill takes longer than all else: seconds with the default model. */
const systemTokens = (name) => Number(process.env.SYSTEM_TOKENS ?? (real(name) ? 96 : 256));
/** By folder. */
const MODELS = {
  model: tinyModel(),
  small: smallModel(),
  shallow: shallowModel(),
  qwen3: chatGguf("tiny-qwen3-f16", 2),
  gemma3: chatGguf("tiny-gemma3-f16", 2),
  lfm2: tinyModel({}, "tiny-lfm2-f16"),
};
const only = new RegExp(process.env.ONLY ?? "");

// Side by side: Firefox waits a tenth of a second for each token, whatever the model.
describe("browsers", { concurrency: true }, () => {
  for (const name of BROWSERS) {
    describe(name, { concurrency: 1 }, () => {
      let browser;
      before(async () => (browser = await open(name)));
      after(() => browser?.close());
      for (const [title, behaviour] of Object.entries(behaviours)) {
        if (!only.test(title)) continue;
        const skip = name !== "chromium" && needsQuota.includes(title) && "its quota cannot be set";
        test(title, { timeout: 600_000, skip }, (context) => run(browser, behaviour, (text) => context.diagnostic(`${name}: ${text}`)));
      }
    });
  }
});

async function run(browser, work, say) {
  const behaviour = {};
  const files = {};
  for (const [folder, model] of Object.entries(MODELS)) {
    for (const [name, bytes] of Object.entries(model)) files[`/${folder}/${name}`] = bytes;
  }
  if (real(browser.name)) Object.defineProperty(files, "/real.gguf", { get: () => readFileSync(MODEL) });
  const server = await serve(files, behaviour);
  // A new origin each time has an empty disk.
  const sites = [];
  const newSite = async (change) => {
    sites.push(await serveFolders({ "/": PAGE, "/dist/": DIST }, server.origin, change));
    return sites.at(-1);
  };
  const site = await newSite();
  const pages = [];
  const said = [];
  const newPage = async ({ origin } = site) => {
    const page = await browser.newPage();
    pages.push(page);
    page.on("console", (message) => message.type() === "error" && said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    const ready = () => page.waitForFunction(() => window.calls);
    await page.goto(origin);
    await ready();
    const reload = page.reload.bind(page);
    page.reload = () => reload().then(ready);
    if (process.env.VERBOSE) tellCalls(page);
    return page;
  };
  const setQuota = (bytes) => browser.setQuota(pages[0], bytes);
  try {
    await work({ newPage, newSite, server, behaviour, files, real: real(browser.name), systemTokens: systemTokens(browser.name), setQuota, say, url: `${server.origin}/model/` });
  } catch (error) {
    if (said.length > 0) error.message += `\nThe page said:\n${[...new Set(said)].join("\n")}`;
    throw error;
  } finally {
    await Promise.all(pages.map((page) => page.isClosed() || page.close()));
    await Promise.all(sites.map((site) => site.close()));
    await server.close();
  }
}

function tellCalls(page) {
  const evaluate = page.evaluate.bind(page);
  page.evaluate = async (work, argument) => {
    const begun = Date.now();
    const told = argument ? `${argument[0]} ${JSON.stringify(argument[1] ?? null).slice(0, 80)}` : String(work).slice(0, 60);
    console.error(`  ${told} …`);
    const value = await evaluate(work, argument);
    console.error(`  ${told}: ${Date.now() - begun} ms`);
    return value;
  };
}
