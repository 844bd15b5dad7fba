// The page's side of the behaviours. Functions of `calls` are called by name; they take and return plain data.
// It opens one Headstart at a time and keeps it between calls.
import * as thread from "/dist/index.js";
import * as worker from "/dist/worker.js";
import { readPrompt } from "/read-prompt.mjs";

const variants = { thread, worker };
let headstart;

const say = (content, system) => [...(system ? [{ role: "system", content: system }] : []), { role: "user", content }];
const plain = ({ code, message, ...fields }) => ({ code, message, ...fields });
const summary = ({ choices: [{ message, finish_reason }], usage, headstart: { cache, timings, finish, recovered } }) =>
  ({ text: message.content, finish_reason, usage, sources: cache.sources, timings, finish, recovered });

/** A thrown value as data for the driver. */
const caught = (work) => work.then((value) => ({ value }), (error) => ({ error: plain(error) }));

async function modelOf({ url, urls, blobOf, streamOf, bytes, files }) {
  if (bytes) return new Blob([new Uint8Array(bytes)]);
  if (blobOf) return Object.fromEntries(await Promise.all(files.map(async (name) => [name, await (await fetch(blobOf + name)).blob()])));
  if (streamOf) return Object.fromEntries(await Promise.all(files.map(async (name) => [name, (await fetch(streamOf + name)).body])));
  return urls ?? url;
}

window.calls = {
  open: ({ variant = "worker", wasm, model, abortAfterBytes, ...options }) =>
    caught((async () => {
      await headstart?.dispose();
      headstart = undefined;
      const stop = new AbortController();
      const progress = [];
      const asBytes = async () => (await fetch("/dist/wasm/headstart_bg.wasm")).arrayBuffer();
      headstart = await variants[variant].Headstart.create({
        model: await modelOf(model),
        ...(wasm === "bytes" && { wasm: await asBytes() }),
        ...(wasm === "module" && { wasm: await WebAssembly.compile(await asBytes()) }),
        ...(wasm === "url" && { wasm: "/dist/wasm/headstart_bg.wasm" }),
        ...options,
        signal: stop.signal,
        onProgress(step) {
          progress.push(step);
          if (step.stage === "download" && step.loaded > abortAfterBytes) stop.abort();
        },
      });
      const last = (wanted) => progress.findLast(({ stage }) => stage === wanted);
      return { adapter: headstart.adapter, digest: headstart.weightsDigest, download: last("download"), upload: last("upload"), compile: last("compile") };
    })()),

  answer: ({ content, system, messages = say(content, system), ...options }) =>
    caught(headstart.chat.completions.create({ max_tokens: 16, ...options, messages }).then(summary)),

  several: (contents) =>
    caught(Promise.all(contents.map((content) => headstart.chat.completions.create({ max_tokens: 16, messages: say(content) }).then(summary)))),

  /** Streams, and after `after` pieces of text does `act`: leave, abort (the stream), signal, or lose the device. */
  stream: ({ content, system, act, after = 3, ...options }) =>
    caught((async () => {
      const stop = new AbortController();
      const stream = await headstart.chat.completions.create({ max_tokens: 64, ...options, messages: say(content, system), stream: true, signal: stop.signal });
      let text = "";
      let pieces = 0;
      let last;
      for await (last of stream) {
        const { content: piece } = last.choices[0].delta;
        if (!piece) continue;
        text += piece;
        if (++pieces !== after) continue;
        if (act === "leave") break;
        if (act === "abort") stream.abort();
        if (act === "signal") stop.abort();
        if (act === "lose") await headstart.destroyDeviceForTest();
      }
      return { text, pieces, finish: last.headstart?.finish, recovered: last.headstart?.recovered, usage: last.usage, sources: last.headstart?.cache.sources };
    })()),

  readPrompt: (request) => caught(readPrompt(headstart, request)),

  /** Frames that were painted, and the longest time between two, while the engine answered. */
  frames: (options) =>
    caught((async () => {
      const gaps = [];
      let before = performance.now();
      let on = true;
      const paint = (now) => {
        gaps.push(now - before);
        before = now;
        if (on) requestAnimationFrame(paint);
      };
      requestAnimationFrame(paint);
      const begun = performance.now();
      await headstart.chat.completions.create({ max_tokens: 64, ...options, messages: say("hello there") });
      on = false;
      return { frames: gaps.length, longest: Math.max(...gaps), ms: performance.now() - begun };
    })()),

  warm: ({ content, system }) => caught(headstart.prefix.warm(say(content, system))),
  explain: ([known, prompt]) => caught(headstart.prefix.explain(say(known.content, known.system), say(prompt.content, prompt.system))),
  stats: () => caught(headstart.prefix.stats()),
  clear: () => caught(headstart.prefix.clear()),
  lose: () => caught(headstart.destroyDeviceForTest()),
  dispose: () => caught(headstart.dispose().then(() => (headstart = undefined))),
  pack: ({ content, system, name }) => caught(headstart.prefix.export(say(content, system), { name }).then(async (blob) => Array.from(new Uint8Array(await blob.arrayBuffer())))),
  importPack: (bytes) => caught(headstart.prefix.import(new Blob([new Uint8Array(bytes)]))),
  loadPack: (url) => caught(headstart.prefix.load(url)),
  tokens: (text) => caught(headstart.tokenize(text).then(async (tokens) => ({ tokens: Array.from(tokens), text: await headstart.detokenize(tokens) }))),
  weights: () => caught(worker.listWeights()),
  clearWeights: (url) => caught(worker.clearWeights(url)),

  /** From now on this page, not a worker, behaves as a browser that cannot write to its private file system. */
  withoutOpfs: () => void delete FileSystemFileHandle.prototype.createWritable,

  /** Names of all files that the package keeps, with sizes. */
  async kept() {
    const files = [];
    const walk = async (folder, path) => {
      for await (const [name, handle] of folder.entries()) {
        if (handle.kind === "directory") await walk(handle, `${path}${name}/`);
        else files.push({ path: path + name, size: (await handle.getFile()).size });
      }
    };
    await walk(await navigator.storage.getDirectory(), "");
    return files;
  },
};
