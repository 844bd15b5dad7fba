import { defineConfig, type Plugin } from "vite";

/** What the built page may do: its own scripts, WebAssembly, and models from where the person says. Nothing else. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self'",
  "worker-src 'self'",
  "connect-src 'self' http: https: blob:",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

const contentSecurityPolicy: Plugin = {
  name: "content-security-policy",
  apply: "build",
  transformIndexHtml: () => [
    { tag: "meta", attrs: { "http-equiv": "Content-Security-Policy", content: POLICY }, injectTo: "head-prepend" },
  ],
};

// `--mode double` builds the page with the test double of the package, in its own folder.
export default defineConfig(({ mode }) => {
  const double = new URL("./test/double/headstart.ts", import.meta.url).pathname;
  return {
    base: "./",
    plugins: [contentSecurityPolicy],
    resolve: { alias: mode === "double" ? { "headstart/worker": double, headstart: double } : {} },
    build: { target: "es2022", outDir: mode === "double" ? ".double" : "dist", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
    worker: { format: "es" },
    server: { fs: { allow: [".."] } },
  };
});
