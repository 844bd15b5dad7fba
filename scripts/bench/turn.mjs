// The counterpart of turn.py for engines that run in a page of Chromium: prints what the engine is, then measures a turn for
// each line of standard input.

import { createReadStream, existsSync, promises as fs } from "node:fs";
import http from "node:http";
import path from "node:path";
import readline from "node:readline";
import { parseArgs } from "node:util";

const SUFFIX = 18;
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json", ".wasm": "application/wasm" };

const text = (value) => ({ type: "string", default: value });
const { values } = parseArgs({
  options: {
    model: text("models/SmolLM2-135M-Instruct.Q4_1.gguf"),
    lengths: text("128,512"),
    decode: text("32"),
    prefix: text("512"),
    seconds: text("45"),
    start: text("120"),
    backend: text("wasm"),
  },
});
export const args = {
  ...values,
  lengths: values.lengths.split(",").map(Number).toSorted((a, b) => a - b),
  decode: Number(values.decode),
  prefix: Number(values.prefix),
};
args.context = Math.max(...args.lengths, args.prefix + SUFFIX, 16 + args.decode) + 64;

const tell = (line) => console.log(JSON.stringify(line));

/** Reports that an engine cannot run here, and exits. */
export function absent(engine, why) {
  tell({ engine, absent: why });
  process.exit(0);
}

/** Exits with a report if one of the files is missing. */
export function need(engine, files, fix) {
  const missing = files.find((file) => !existsSync(file));
  if (missing) absent(engine, `${missing} does not exist: ${fix}`);
}

/** Serves folders by URL prefix, and `html` at the root with the headers that threads need. */
function serve(folders, html) {
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
    response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    if (pathname === "/") return response.setHeader("content-type", "text/html").end(html);
    const begin = Object.keys(folders).find((begin) => pathname.startsWith(begin));
    const file = begin && path.join(folders[begin], path.normalize("/" + decodeURIComponent(pathname.slice(begin.length))));
    const stat = file && (await fs.stat(file).catch(() => undefined));
    if (!stat?.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[path.extname(file)] ?? "application/octet-stream", "content-length": stat.size });
    if (request.method === "HEAD") return response.end();
    createReadStream(file).pipe(response);
  });
  return new Promise((listening) => server.listen(0, "127.0.0.1", () => listening(server)));
}

let seed = 0;
/** Token ids that share no prefix with another prompt. */
const prompt = (length) => {
  const from = seed++ * 1_009;
  return Array.from({ length }, (_, at) => 100 + ((from + at * 7_919) % 20_000));
};

/** Measures as llama.py does: `ask(prompt, answer, known)` returns milliseconds to the first token, and tokens per second of prefill and decode. */
async function measure(ask, { keeps }) {
  const end = Date.now() + Number(args.seconds) * 1e3;
  const [figures, left_out] = [{}, {}];
  const fits = (figure, cost) => {
    const left = (end - Date.now()) / 1e3;
    if (cost > left) left_out[figure] = `would take ${cost.toFixed()} s, ${Math.max(left, 0).toFixed()} s were left`;
    return cost <= left;
  };
  let { prefill, decode } = await ask(prompt(16), 4);
  if (fits("decode", args.decode / decode)) {
    await ask(prompt(16), 2);
    figures.decode = [(await ask(prompt(16), args.decode)).decode];
  }
  for (const length of args.lengths) {
    if (!fits(`prefill ${length}`, (2 * length) / prefill)) continue;
    await ask(prompt(length), 1);
    ({ prefill } = await ask(prompt(length), 1));
    figures[`prefill ${length}`] = [prefill];
  }
  if (args.prefix && fits("cold", (args.prefix + 3 * SUFFIX) / prefill)) {
    const prefix = prompt(args.prefix);
    const first = async () => [(await ask([...prefix, ...prompt(SUFFIX)], 1, true)).first];
    figures.cold = await first();
    if (keeps) {
      await first();
      figures.known = await first();
    }
  }
  return { figures, left_out };
}

/**
 * Opens a page over `folders`, calls `load(page)`, which returns `{ where, version, ask, keeps }` or throws, and measures turns until
 * standard input ends. `keeps`: whether the engine reuses an earlier prompt's prefix.
 */
export async function turns(engine, { folders, html = "<!doctype html><title>bench</title>" }, load) {
  need(engine, ["tests/browser/node_modules/playwright-core"], "scripts/bench.sh install web");
  const { open } = await import("../../tests/browser/browsers.mjs");
  const server = await serve(folders, html);
  const browser = await open("chromium").catch((error) => absent(engine, `Chromium did not start: ${error.message.split("\n")[0]}`));
  try {
    await browser.page.goto(`http://127.0.0.1:${server.address().port}/`);
    const { where, version, ask, ...rest } = await load(browser.page);
    tell({ engine, where, version });
    for await (const _ of readline.createInterface({ input: process.stdin })) tell(await measure(ask, rest));
  } catch (error) {
    tell({ engine, absent: String(error.message ?? error).split("\n")[0].slice(0, 200) });
  } finally {
    await browser.close();
    server.closeAllConnections();
    server.close();
  }
}
