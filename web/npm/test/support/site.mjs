// A static server whose pages have a strict policy.
import { readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json", ".wasm": "application/wasm", ".css": "text/css",
};

/** Scripts of this origin, WebAssembly, no `eval`, nothing inline. No COOP, no COEP. */
const policy = (connect) =>
  `default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self' ${connect}; style-src 'self'; img-src 'self' data:`;

/**
 * Serves the files of `mounts`: a folder, or bytes by name, for each path prefix; the longest that fits. Pages may
 * fetch from here and from the origins in `connect`, and do what `change` makes of the policy.
 */
export async function serveFolders(mounts, connect = "", change = (policy) => policy) {
  const prefixes = Object.keys(mounts).sort((a, b) => b.length - a.length);
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
    const prefix = prefixes.find((prefix) => path.startsWith(prefix));
    const name = path.slice(prefix.length) || "index.html";
    const bytes = typeof mounts[prefix] === "string" ? fileIn(mounts[prefix], name) : mounts[prefix][name];
    if (!bytes) return response.writeHead(404).end();
    const headers = { "content-type": TYPES[extname(name)] ?? "application/octet-stream", "content-security-policy": change(policy(connect)), "content-length": bytes.length };
    response.writeHead(200, headers).end(request.method === "HEAD" ? undefined : bytes);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

function fileIn(folder, name) {
  const path = join(folder, normalize(`/${name}`));
  return statSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path) : undefined;
}
