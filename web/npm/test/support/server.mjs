// A file server with the faults of real ones: no ranges, cut connections, changed files, errors.
import { createHash } from "node:crypto";
import { createServer } from "node:http";

/**
 * Serves `files` (bytes by path). `behaviour` applies to all files and can be changed at any time:
 * `ranges: false`, `cutAfter: bytes` of each answer, of each file the first `cuts` times since `cut: {}`, `status`, `head: false` or `0`, the length it says,
 * `validators: false`, `cors: false`, `fallback: true` for a page of HTML where there is no file, and `broken`: a path below which every connection is cut.
 * `log` has every request: method, path, the Range header, and the bytes that were sent.
 */
export async function serve(files, behaviour = {}) {
  const log = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
    const entry = { method: request.method, path, range: request.headers.range, bytes: 0 };
    log.push(entry);
    const shared = behaviour.cors === false ? {} : { "access-control-allow-origin": "*", "access-control-expose-headers": "etag" };
    const end = (status, headers = {}) => response.writeHead(status, { ...headers, ...shared }).end();
    if (request.method === "OPTIONS") return end(204, { "access-control-allow-headers": "range", "access-control-allow-methods": "GET, HEAD" });
    if (behaviour.status) return end(behaviour.status);
    const file = files[path];
    if (!file && behaviour.fallback) return response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end("<!doctype html>");
    if (!file) return end(404);
    const headers = {
      "accept-ranges": behaviour.ranges === false ? "none" : "bytes",
      ...shared,
      ...(behaviour.validators !== false && { etag: `"${createHash("sha256").update(file).digest("hex").slice(0, 16)}"` }),
    };
    if (request.method === "HEAD") {
      return behaviour.head === false ? end(405) : end(200, { ...headers, "content-length": behaviour.head === 0 ? 0 : file.length });
    }
    const range = behaviour.ranges === false ? null : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const from = range ? Number(range[1]) : 0;
    if (range && from >= file.length) return end(416, { "content-range": `bytes */${file.length}` });
    const body = file.subarray(from);
    headers["content-length"] = body.length;
    if (range) headers["content-range"] = `bytes ${from}-${file.length - 1}/${file.length}`;
    response.writeHead(range ? 206 : 200, headers);
    const broken = behaviour.broken !== undefined && path.startsWith(behaviour.broken);
    const cutAfter = broken ? 10 : behaviour.cutAfter;
    const cut = (behaviour.cut ??= {});
    if (cutAfter !== undefined && body.length > cutAfter && (broken || !(cut[path] >= behaviour.cuts))) {
      entry.bytes = cutAfter;
      response.write(body.subarray(0, cutAfter), () => setTimeout(() => response.destroy(), 20));
      cut[path] = (cut[path] ?? 0) + 1;
    } else {
      entry.bytes = body.length;
      response.end(body);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    log,
    sent: () => log.reduce((sum, { bytes }) => sum + bytes, 0),
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
