// Serves the repository's files over HTTP, with ranges, and with faults that a client must handle.
//
// `?status=404` answers with that status, `?norange` ignores ranges, `?cut=N` closes the connection after N bytes, and `?context=N`
// gives a tiny model another context length.

import { createReadStream, promises as fs } from "node:fs";
import http from "node:http";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";

import { tinyFiles } from "./tiny.mjs";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** The served folders by the prefix of their addresses. */
const FOLDERS = {
  "/page/": "tests/browser/page/",
  "/golden/": "tests/golden/",
  "/models/": "models/",
  "/wasm/": "web/npm/wasm/",
  "/made/": process.env.MADE ?? "target/",
};

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json", ".wasm": "application/wasm" };

async function find(pathname, context) {
  const made = await tinyFiles(ROOT, pathname, context);
  if (made) return { size: made.length, stream: ({ start, end }) => made.subarray(start, end + 1) };
  const prefix = Object.keys(FOLDERS).find((prefix) => pathname.startsWith(prefix));
  if (!prefix) return undefined;
  const folder = path.resolve(ROOT, FOLDERS[prefix]) + path.sep;
  const file = path.join(folder, pathname.slice(prefix.length));
  if (!file.startsWith(folder)) return undefined;
  const stat = await fs.stat(file).catch(() => undefined);
  return stat?.isFile() && { size: stat.size, stream: (range) => createReadStream(file, range) };
}

/** `bytes=a-b` as an inclusive range within `size`; undefined if it is none. */
function range(header, size) {
  const found = /^bytes=(\d+)-(\d*)$/.exec(header ?? "");
  if (!found) return undefined;
  const [start, end] = [Number(found[1]), Math.min(found[2] === "" ? Infinity : Number(found[2]), size - 1)];
  return start <= end ? { start, end } : undefined;
}

async function answer(request, response) {
  const url = new URL(request.url, "http://localhost");
  const asked = url.searchParams;
  const status = Number(asked.get("status") ?? 0);
  const file = await find(decodeURIComponent(url.pathname), asked.get("context"));
  if (status || !file) {
    response.writeHead(status || 404, { "content-type": "text/plain" }).end("no such file");
    return;
  }
  const part = asked.has("norange") ? undefined : range(request.headers.range, file.size);
  const { start, end } = part ?? { start: 0, end: file.size - 1 };
  const headers = {
    "content-type": TYPES[path.extname(url.pathname)] ?? "application/octet-stream",
    "content-length": end - start + 1,
    "cache-control": "no-store",
  };
  if (!asked.has("norange")) headers["accept-ranges"] = "bytes";
  if (part) headers["content-range"] = `bytes ${start}-${end}/${file.size}`;
  response.writeHead(part ? 206 : 200, headers);
  if (request.method === "HEAD") return response.end();

  let left = asked.has("cut") ? Number(asked.get("cut")) : Infinity;
  const pieces = async function* () {
    const source = file.stream({ start, end });
    for await (const chunk of source instanceof Uint8Array ? [source] : source) {
      const piece = chunk.subarray(0, left);
      left -= piece.length;
      yield piece;
      if (left === 0) throw new Error("cut");
    }
  };
  // Either the test or the client closed the connection early.
  await pipeline(pieces, response).catch(() => response.destroy());
}

/** Starts the server. Returns its origin and a function that closes it. */
export async function serve() {
  const server = http.createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { origin: `http://127.0.0.1:${server.address().port}`, close };
}
