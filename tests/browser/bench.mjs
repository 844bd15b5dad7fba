// Prefill and decode speed of the real model in a browser, as one line of JSON: medians in tokens a second.
//
//     node tests/browser/bench.mjs [chromium|firefox] [prompt lengths] [tokens decoded] [runs]

import { open } from "./browsers.mjs";
import { serve } from "./server.mjs";

const [name = "chromium", lengths = "16,128", decoded = "16", runs = "3"] = process.argv.slice(2);
const MODEL = "/models/SmolLM2-135M-Instruct.Q4_1.gguf";

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

const server = await serve();
const browser = await open(name);
try {
  const { page } = browser;
  await page.goto(`${server.origin}/page/index.html`);
  await page.waitForFunction(() => globalThis.ready);
  const call = (method, ...rest) => page.evaluate(([method, rest]) => globalThis.hs[method](...rest), [method, rest]);
  const { engine, ms, info } = await call("load", [MODEL], { context: 2048 });
  const answer = async (length, max_tokens) => {
    // No kernel's time depends on which tokens they are.
    const tokens = Array.from({ length }, (_, at) => 1000 + ((at * 7919) % 40_000));
    const { finish, error } = await call("answer", engine, { tokens, max_tokens, no_cache: true });
    if (error) throw new Error(JSON.stringify(error));
    return finish.timings;
  };
  const several = async (length, max_tokens, figure) => {
    const rates = [];
    for (let run = 0; run < Number(runs); run++) rates.push((await answer(length, max_tokens))[figure]);
    return median(rates);
  };
  await answer(8, 2);
  const prefill_tok_s = {};
  for (const length of lengths.split(",").map(Number)) prefill_tok_s[length] = await several(length, 1, "prefill_tok_s");
  const decode_tok_s = await several(16, Number(decoded), "decode_tok_s");
  console.log(JSON.stringify({ browser: name, driver: info.adapter.driver, load_ms: Math.round(ms), prefill_tok_s, decode_tok_s }));
} finally {
  await browser.close();
  server.close();
}
