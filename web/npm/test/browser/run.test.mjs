// The behaviours in Chromium.
import { after, before, test } from "node:test";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { launch, serveFolders } from "../support/chromium.mjs";
import { serve } from "../support/server.mjs";
import { tinyModel } from "../support/tiny.mjs";
import { behaviours } from "./behaviours.mjs";

const DIST = fileURLToPath(new URL("../../dist", import.meta.url));
const read = (name) => readFileSync(new URL(name, import.meta.url));
const only = new RegExp(process.env.ONLY ?? "");

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

for (const [name, run] of Object.entries(behaviours)) {
  if (!only.test(name)) continue;
  test(name, { timeout: 600_000 }, async () => {
    const behaviour = {};
    const files = Object.fromEntries(Object.entries(tinyModel()).map(([name, bytes]) => [`/model/${name}`, bytes]));
    const server = await serve(files, behaviour);
    // A new origin each time, and so an empty disk.
    const site = await serveFolders({ "/": { "index.html": read("index.html"), "page.mjs": read("page.mjs") }, "/dist/": DIST }, server.origin);
    const pages = [];
    const said = [];
    const newPage = async () => {
      const page = await browser.context.newPage();
      pages.push(page);
      page.on("console", (message) => message.type() === "error" && said.push(message.text()));
      page.on("pageerror", (error) => said.push(String(error)));
      await page.goto(site.origin);
      await page.waitForFunction(() => window.calls);
      const reload = page.reload.bind(page);
      page.reload = async () => {
        await reload();
        await page.waitForFunction(() => window.calls);
      };
      if (process.env.VERBOSE) {
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
      return page;
    };
    const setQuota = async (bytes) => {
      const session = await browser.context.newCDPSession(pages[0]);
      await session.send("Storage.overrideQuotaForOrigin", { origin: site.origin, ...(bytes !== null && { quotaSize: bytes }) });
      // The override lives as long as its session: it is left to the page.
    };
    try {
      await run({ newPage, server, behaviour, files, setQuota, url: `${server.origin}/model/` });
    } catch (error) {
      if (said.length > 0) error.message += `\nThe page said:\n${[...new Set(said)].join("\n")}`;
      throw error;
    } finally {
      await Promise.all(pages.map((page) => page.close()));
      await site.close();
      await server.close();
    }
  });
}
