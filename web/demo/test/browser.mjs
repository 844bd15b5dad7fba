// A server for the built page, and a browser with an empty profile.
import { createReadStream, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";
import { CHROMIUM } from "../../../tests/browser/browsers.mjs";

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".json": "application/json",
  ".wasm": "application/wasm",
};

/** Serves `root` in a folder, as a host may, and `files` by name beside it. Records the requests, and the bytes sent of each file. */
export async function serve(root, files = {}) {
  const asked = [];
  const sent = {};
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    asked.push(path);
    const below = path.startsWith("/app/") ? normalize(path.slice(5)) || "index.html" : null;
    const file = files[path.slice(1)] ?? (below === null || below.startsWith("..") ? null : join(root, below === "." ? "index.html" : below));
    const found = file === null ? undefined : statSync(file, { throwIfNoEntry: false });
    if (!found?.isFile()) return response.writeHead(404).end();
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const [from, to] = range ? [Number(range[1]), Math.min(Number(range[2] || Infinity), found.size - 1)] : [0, found.size - 1];
    response.writeHead(range ? 206 : 200, {
      "content-type": TYPES[extname(file)] ?? "application/octet-stream",
      "content-length": to - from + 1,
      "accept-ranges": "bytes",
      etag: `"${found.size}-${found.mtimeMs}"`,
      ...(range ? { "content-range": `bytes ${from}-${to}/${found.size}` } : {}),
    });
    if (request.method === "HEAD") return response.end();
    sent[path] = (sent[path] ?? 0) + to - from + 1;
    createReadStream(file, { start: from, end: to }).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return { origin, page: `${origin}/app/`, asked, sent, close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(resolve))) };
}

export const launchBrowser = () => chromium.launch(CHROMIUM);

/** A browser with its own profile: what a page keeps survives reloads and ends with the browser. */
export async function launch(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), "headstart-demo-"));
  const context = await chromium.launchPersistentContext(profile, {
    ...CHROMIUM,
    viewport: { width: 1180, height: 820 },
    ...options,
  });
  const close = async () => {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { context, close };
}

/** A fresh page. `faults` collects its errors and what its policy refused. */
export async function openPage(context, url) {
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(url);
  return { page, faults };
}

export const openModel = async (page, name = "tiny-chat.gguf") => {
  await page.getByLabel("Address of a GGUF file").fill(name);
  await page.getByRole("button", { name: "Download", exact: true }).click();
};

/** Drops a file on the page, or with `over` only drags it there. */
export const drop = (page, name, text = "GGUF and so on", over = false) =>
  page.evaluate(
    ([name, text, over]) => {
      const data = new DataTransfer();
      data.items.add(new File([text], name));
      for (const type of over ? ["dragover"] : ["dragover", "drop"])
        document.body.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: data }));
    },
    [name, text, over],
  );

export const ask = async (page, text) => {
  const field = page.getByLabel("Message", { exact: true });
  await field.fill(text);
  await field.press("Enter");
};

/** Waits until no answer is under way. Returns the number of answers. */
export const answered = async (page, count, timeout = 30_000) => {
  await page.waitForFunction(
    (count) => document.querySelectorAll(".answer").length === count && !document.querySelector('.answer[aria-busy="true"]'),
    count,
    { timeout },
  );
};

/** Unfolds the accounts of all prompts. */
export const unfold = (page) =>
  page.evaluate(() => {
    for (const gist of document.querySelectorAll('.gist[aria-expanded="false"]')) gist.click();
  });
