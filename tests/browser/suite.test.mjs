// The WebAssembly interface in real browsers. Each browser runs the cases in order, and the browsers run at the same time, since
// Firefox waits a tenth of a second for each token.
//
//     node --test tests/browser/suite.test.mjs        BROWSERS=firefox, --test-name-pattern=golden to narrow it
//                                                     GOLDEN=all adds the other golden prompts

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { BROWSERS, open } from "./browsers.mjs";
import { EVERYWHERE } from "./cases.mjs";
import { serve } from "./server.mjs";

describe("browsers", { concurrency: true }, () => {
  for (const name of BROWSERS) {
    describe(name, { concurrency: 1, timeout: 900_000 }, () => {
      let server;
      let browser;

      before(async () => {
        server = await serve();
        browser = await open(name);
      });

      after(async () => {
        await browser?.close();
        server?.close();
      });

      /** A fresh page of the same profile: what it kept on disk is there. */
      const visit = async () => {
        await browser.page.goto(`${server.origin}/page/index.html`);
        await browser.page.waitForFunction(() => globalThis.ready);
        return (method, ...rest) =>
          browser.page.evaluate(([method, rest]) => globalThis.hs[method](...rest), [method, rest]);
      };

      for (const [title, run] of Object.entries(EVERYWHERE)) {
        test(title, async (context) => {
          await run({ visit, origin: server.origin, browser, name, say: (text) => context.diagnostic(`${name}: ${text}`) });
        });
      }

      test("no WebGPU", async () => {
        const without = await open(name, { webgpu: false });
        try {
          await without.page.goto(`${server.origin}/page/index.html`);
          await without.page.waitForFunction(() => globalThis.ready);
          const error = await without.page.evaluate(
            () => globalThis.hs.refusal(["config.json", "model.safetensors", "tokenizer.json"].map((file) => `/tiny/tiny-odd-f16/${file}`)),
          );
          // Chromium has the interface wherever it is, and then gives no adapter.
          const [code, says] = name === "chromium" ? ["no_adapter", /graphics card/] : ["no_webgpu", /Firefox.*Chrome|Chrome.*Firefox/];
          assert.equal(error?.code, code);
          assert.match(error.message, says);
        } finally {
          await without.close();
        }
      });
    });
  }
});
