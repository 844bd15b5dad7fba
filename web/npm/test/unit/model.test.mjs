// Sources of models: downloads that are cut, resumed, kept, changed and refused; Blobs; streams; directories.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, test } from "node:test";
import { MemoryDisk, openDisk } from "../../dist/disk/disk.js";
import { openModel, nameSources } from "../../dist/model/source.js";
import { clearWeights, listWeights } from "../../dist/model/weights.js";
import { local } from "../support/create.mjs";
import { Sha256, hubNames } from "../support/engine.mjs";
import { installBrowser } from "../support/fakes.mjs";
import { serve } from "../support/server.mjs";

const MIB = 1 << 20;
const PIECE = 8 * MIB;
const bytes = randomBytes(20 * MIB + 123);
const sha256 = (data) => createHash("sha256").update(data).digest("hex");

let disk, server, behaviour;
beforeEach(async () => {
  disk = installBrowser();
  behaviour = {};
  server = await serve({ "/m.gguf": bytes }, behaviour);
});
afterEach(() => server.close());

async function open(model, { persist = true, onProgress = () => undefined, ...rest } = {}) {
  const hub = { base: server.origin, names: hubNames };
  const defaults = { disk: persist ? await openDisk() : undefined, onProgress, hash: () => new Sha256(), hub, judge: async () => undefined };
  return openModel(nameSources(model), { ...defaults, ...rest });
}

const url = () => `${server.origin}/m.gguf`;
const code = (expected, fields = {}) => (error) => {
  assert.equal(error.code, expected, error.message);
  for (const [name, value] of Object.entries(fields)) assert.equal(error[name], value);
  return true;
};

async function same(file, expected = bytes) {
  assert.equal(file.size, expected.length);
  const around = Math.min(PIECE, expected.length) - 5;
  for (const [at, length] of [[0, 1], [around, 5], [around, Math.min(12 * MIB, expected.length - around)], [expected.length - 3, 3], [expected.length, 0]]) {
    assert.ok(Buffer.from(await file.read(at, length)).equals(expected.subarray(at, at + length)), `${length} bytes at ${at}`);
  }
}

/** Accepts files that begin with these bytes. */
const reads = (length, wanted = bytes) => async (files) => {
  for (const { name, size, read } of files) {
    if (/json$/.test(name)) continue;
    const found = Buffer.from(await read(0, Math.min(length, size)));
    if (!found.equals(wanted.subarray(0, found.length))) throw { code: "bad_model", message: `${name}: not a GGUF file`, file: name };
  }
};

test("a file is judged before it is kept, by the bytes that are then kept", async () => {
  const progress = [];
  const { files: [file] } = await open(url(), { judge: reads(9 * MIB), onProgress: (loaded, total) => progress.push([loaded, total]) });
  await same(file);
  assert.equal(file.sha256, sha256(bytes));
  assert.deepEqual(progress.at(-1), [bytes.length, bytes.length]);
  assert.ok(progress.every(([loaded], index) => loaded >= (progress[index - 1]?.[0] ?? 0)));
  assert.deepEqual(server.log.map(({ method }) => method), ["HEAD", "GET"]);
  // The kept bytes were judged.
  await same((await open(url(), { judge: () => assert.fail("looked at again") })).files[0]);
});

test("a file is judged alike over a cut connection, without ranges and without HEAD", async () => {
  for (const behave of [{ cutAfter: 3 * MIB }, { cutAfter: 3 * MIB, ranges: false, cuts: 1 }, { head: false }, { head: 0 }]) {
    Object.assign(behaviour, { cutAfter: undefined, cuts: undefined, ranges: undefined, head: undefined, cut: {} }, behave);
    const { files: [file] } = await open(url(), { judge: reads(9 * MIB) });
    assert.equal(file.sha256, sha256(bytes), JSON.stringify(behave));
    await clearWeights();
  }
});

test("a file that is no model is refused by its first bytes, and neither kept nor listed", async () => {
  const pages = { "/e.gguf": Buffer.from('{"error":"not found"}'), "/p.gguf": Buffer.from("version https://git-lfs.github.com/spec/v1\n"), "/o.gguf": randomBytes(30 * MIB) };
  await server.close();
  server = await serve({ ...pages, "/d/config.json": Buffer.from("{}"), "/d/tokenizer.json": Buffer.from("{}"), "/d/model.safetensors": pages["/o.gguf"] }, behaviour);
  const refused = code("bad_model");
  for (const path of [...Object.keys(pages), "/d/"]) {
    const before = server.log.length;
    await assert.rejects(open(server.origin + path, { judge: reads(4096) }), refused);
    assert.deepEqual([await listWeights(), disk.used], [[], 0], path);
    assert.ok(server.log.slice(before).filter(({ path }) => /(gguf|model\.safetensors)$/.test(path)).length <= 2, "asked again");
  }
  // What an earlier version kept of it, without judging it, is removed too; other files stay.
  await open(`${server.origin}/o.gguf`);
  await open(`${server.origin}/d/`);
  const model = await open(`${server.origin}/d/`);
  await model.close({ code: "bad_model", file: "tokenizer.json" });
  assert.deepEqual((await listWeights()).map(({ name, complete }) => [name, complete]), [["o.gguf", true], ["d", true]]);
  await (await open(`${server.origin}/o.gguf`)).close({ code: "bad_model" });
  assert.deepEqual((await listWeights()).map(({ name }) => name), ["d"]);
});

test("a model that loading finds unable to run is not kept, and one that fails for other reasons is", async () => {
  const failing = (error, model = url()) => assert.rejects(local({ failLoad: { message: "no", ...error } }, { model }), code(error.code));
  await failing({ code: "out_of_memory" });
  assert.equal((await listWeights()).length, 1);
  await failing({ code: "bad_model", file: "m.gguf" });
  assert.deepEqual([await listWeights(), disk.used], [[], 0]);
  // A stream is judged once all of it has arrived.
  await failing({ code: "bad_model" }, { "m.gguf": new Blob([bytes]).stream() });
  assert.equal(disk.used, 0);
});

test("at most two shards are read at a time, and the first continues where it is", async () => {
  await server.close();
  const names = [1, 2, 3].map((number) => `/s/m-0000${number}-of-00003.gguf`);
  server = await serve(Object.fromEntries(names.map((name) => [name, bytes])), behaviour);
  const { files } = await open(server.origin + names[0], { judge: reads(MIB) });
  for (const file of files) assert.equal(file.sha256, sha256(bytes));
  const gets = server.log.filter(({ method }) => method === "GET");
  assert.deepEqual(gets.filter(({ path }) => path === names[0]).map(({ range }) => range), [undefined]);
  for (const name of names.slice(1)) assert.ok(gets.filter(({ path }) => path === name).every(({ range }, at) => (at === 0) === (range === undefined)), name);
});

test("a file is downloaded once, and then read from the disk, also without the server", async () => {
  const progress = [];
  const { files: [file] } = await open(url(), { onProgress: (loaded, total) => progress.push([loaded, total]) });
  await same(file);
  assert.equal(file.sha256, sha256(bytes));
  assert.deepEqual(progress.at(-1), [bytes.length, bytes.length]);
  assert.ok(progress.every(([loaded, total], index) => total === bytes.length && loaded > (progress[index - 1]?.[0] ?? 0)));
  assert.equal(server.sent(), bytes.length);

  const { files: [again] } = await open(url());
  await same(again);
  assert.equal(again.sha256, file.sha256);
  assert.equal(server.sent(), bytes.length);

  await server.close();
  await same((await open(url())).files[0]);
  assert.deepEqual(await listWeights(), [{ source: url(), name: "m.gguf", size: bytes.length, loaded: bytes.length, complete: true }]);
  await clearWeights(url());
  assert.deepEqual(await listWeights(), []);
  assert.equal(disk.used, 0);
});

test("reads beyond the end are refused", async () => {
  const { files: [file] } = await open(url());
  await assert.rejects(file.read(bytes.length, 1), code("internal"));
});

test("a cut download resumes where it was", async () => {
  behaviour.cutAfter = 9 * MIB;
  const { files: [file] } = await open(url());
  await same(file);
  assert.equal(file.sha256, sha256(bytes));
  const gets = server.log.filter(({ method }) => method === "GET");
  assert.equal(gets.length, 3);
  assert.ok(gets.slice(1).every(({ range }) => range));
  assert.equal(server.sent(), bytes.length);
});

test("a server without ranges sends the whole file again, and known bytes are skipped", async () => {
  Object.assign(behaviour, { ranges: false, cutAfter: 9 * MIB, cuts: 1, cut: {} });
  const { files: [file] } = await open(url());
  await same(file);
  assert.equal(file.sha256, sha256(bytes));
  assert.equal(server.sent(), bytes.length + 9 * MIB);
});

test("a cancelled download resumes at its last whole piece on the next visit", async () => {
  const stop = new AbortController();
  await assert.rejects(open(url(), { signal: stop.signal, onProgress: (loaded) => loaded > 17 * MIB && stop.abort() }), code("aborted"));
  assert.deepEqual(await listWeights(), [{ source: url(), name: "m.gguf", size: bytes.length, loaded: 2 * PIECE, complete: false }]);
  const before = server.log.length;
  const { files: [file] } = await open(url());
  await same(file);
  assert.equal(file.sha256, sha256(bytes));
  assert.deepEqual(server.log.slice(before).map(({ method, range }) => [method, range]), [["HEAD", undefined], ["GET", `bytes=${2 * PIECE}-`]]);
});

test("a file that changed on the server is downloaded again", async () => {
  await open(url());
  const other = randomBytes(bytes.length);
  await server.close();
  const { port } = new URL(server.origin);
  server = await serve({ "/m.gguf": other });
  // The same URL, despite another port: the record is looked up by it.
  assert.notEqual(new URL(server.origin).port, port);
  await same((await open(url())).files[0], other);
});

test("a file that changes during a resumed download is downloaded again, not mixed", async () => {
  const files = { "/m.gguf": bytes };
  await server.close();
  server = await serve(files, behaviour);
  const stop = new AbortController();
  await assert.rejects(open(url(), { signal: stop.signal, onProgress: (loaded) => loaded > 17 * MIB && stop.abort() }), code("aborted"));
  files["/m.gguf"] = randomBytes(bytes.length);
  behaviour.head = false;
  const { files: [file] } = await open(url());
  await same(file, files["/m.gguf"]);
  assert.equal(file.sha256, sha256(files["/m.gguf"]));
  files["/m.gguf"] = randomBytes(bytes.length);
  behaviour.head = true;
  await same((await open(url())).files[0], files["/m.gguf"]);
});

test("without a validator, the size identifies a file", async () => {
  behaviour.validators = false;
  behaviour.cutAfter = 9 * MIB;
  await same((await open(url())).files[0]);
  await same((await open(url())).files[0]);
  assert.equal(server.sent(), bytes.length);
});

test("a refusal of the server is reported at once", async () => {
  await assert.rejects(open(`${server.origin}/other.gguf`), code("http_status", { status: 404, url: `${server.origin}/other.gguf` }));
  behaviour.status = 401;
  await assert.rejects(open(url()), code("http_status", { status: 401 }));
  assert.equal(server.log.length, 4);
  assert.deepEqual(await listWeights(), []);
});

test("a temporary fault of the server is retried", async () => {
  behaviour.status = 503;
  setTimeout(() => (behaviour.status = undefined), 100);
  await same((await open(url())).files[0]);
});

test("a connection that always fails is an error, and waiting for it can be aborted", async () => {
  await server.close();
  await assert.rejects(open(url(), { signal: AbortSignal.timeout(100) }), code("aborted"));
});

test("a lack of room is reported before the download, with the numbers", async () => {
  disk.quota = 10 * MIB;
  await assert.rejects(open(url()), code("quota_exceeded", { asked: bytes.length, available: 10 * MIB }));
  assert.equal(server.sent(), 0);
  behaviour.head = false;
  await assert.rejects(open(url()), code("quota_exceeded", { asked: bytes.length, available: 10 * MIB }));
  const { files: [file] } = await open(url(), { persist: false });
  await same(file);
  assert.equal(disk.writes, 0);
});

test("a disk that fills up during a download is the same error, and the download can be resumed", async () => {
  navigator.storage.estimate = async () => ({});
  disk.quota = 10 * MIB;
  await assert.rejects(open(url()), code("quota_exceeded", { asked: bytes.length - PIECE, available: undefined }));
  disk.quota = 1e12;
  const { files: [file] } = await open(url());
  await same(file);
  assert.equal(server.log.at(-1).range, `bytes=${PIECE}-`);
});

test("two requests for one file download it once", async () => {
  const [first, second] = await Promise.all([open(url()), open(url())]);
  await same(first.files[0]);
  await same(second.files[0]);
  assert.equal(server.sent(), bytes.length);
});

test("a kept file that lost a piece is downloaded again", async () => {
  await open(url());
  const root = await navigator.storage.getDirectory();
  const weights = await (await root.getDirectoryHandle("headstart")).getDirectoryHandle("weights");
  for await (const [, folder] of weights.entries()) await folder.removeEntry("000001");
  await same((await open(url())).files[0]);
});

test("a Blob is read in place", async () => {
  const { files: [file] } = await open(new Blob([bytes]));
  await same(file);
  assert.deepEqual([file.name, disk.writes], ["model.gguf", 0]);
});

test("a stream is spooled to the disk, and removed with the model or the page", async () => {
  const model = await open({ "x.gguf": new Blob([bytes]).stream() });
  await same(model.files[0]);
  assert.equal(model.files[0].sha256, sha256(bytes));
  assert.ok(disk.used >= bytes.length);
  assert.deepEqual((await listWeights()).map(({ source }) => source), [""]);
  // Another model does not touch it while its lock is held.
  await (await open(new Blob([bytes]))).close();
  await same(model.files[0]);
  await model.close();
  assert.equal(disk.used, 0);
});

test("a directory is loaded with its shards, and kept whole", async () => {
  await server.close();
  const shard = randomBytes(3 * MIB);
  const files = {
    "/d/config.json": Buffer.from("{}"),
    "/d/tokenizer.json": Buffer.from("{}"),
    "/d/model.safetensors.index.json": Buffer.from(JSON.stringify({ weight_map: { a: "model-2.safetensors", b: "model-1.safetensors", c: "model-1.safetensors" } })),
    "/d/model-1.safetensors": shard,
    "/d/model-2.safetensors": bytes,
  };
  server = await serve(files);
  const names = ["config.json", "tokenizer.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"];
  const first = await open(`${server.origin}/d/`);
  assert.deepEqual(first.files.map(({ name }) => name), names);
  await same(first.files[4]);
  const sent = server.sent();
  await server.close();
  const second = await open(`${server.origin}/d/`);
  assert.deepEqual(second.files.map(({ name }) => name), names);
  assert.equal(server.sent(), sent);
  const size = Object.values(files).reduce((sum, { length }) => sum + length, 0);
  assert.deepEqual(await listWeights(), [{ source: `${server.origin}/d/`, name: "d", size, loaded: size, complete: true }]);
  await clearWeights(`${server.origin}/d/`);
  assert.equal(disk.used, 0);
});

test("a name of the hub works wherever an address does", async () => {
  await server.close();
  const weights = { "config.json": Buffer.from("{}"), "model.safetensors": bytes };
  const files = { "/own/gg/resolve/main/sub/m-Q8_0.gguf": bytes, "/own/gg/resolve/v1/m-Q4_0.gguf": bytes };
  for (const [name, content] of Object.entries(weights)) files[`/own/dir/resolve/main/${name}`] = content;
  const lists = (...names) => Buffer.from(JSON.stringify({ sha: "0".repeat(40), siblings: names.map((rfilename) => ({ rfilename })) }));
  files["/api/models/own/gg/revision/main"] = lists("README.md", "sub/m-Q8_0.gguf");
  files["/api/models/own/gg/revision/v1"] = lists("m-Q4_0.gguf");
  files["/api/models/own/dir/revision/main"] = lists(...Object.keys(weights));
  server = await serve(files, behaviour);
  const at = (path) => `${server.origin}/own/${path}`;
  const cases = {
    "own/gg": [undefined, ["m-Q8_0.gguf"], at("gg/resolve/main/sub/m-Q8_0.gguf")],
    "own/gg:q8_0": [undefined, ["m-Q8_0.gguf"], at("gg/resolve/main/sub/m-Q8_0.gguf")],
    "own/gg:sub/m-Q8_0.gguf": [undefined, ["m-Q8_0.gguf"], at("gg/resolve/main/sub/m-Q8_0.gguf")],
    "own/gg@v1:Q4_0": [undefined, ["m-Q4_0.gguf"], at("gg/resolve/v1/m-Q4_0.gguf")],
    "own/dir": ["dir", Object.keys(weights), at("dir/resolve/main/")],
  };
  for (const [name, [called, names, source]] of Object.entries(cases)) {
    const opened = await open(name);
    assert.deepEqual([opened.name, opened.files.map(({ name }) => name)], [called, names], name);
    assert.deepEqual((await listWeights()).map(({ source }) => source), [source], name);
    // Recognized also when the hub cannot be reached.
    if (name !== "own/gg:sub/m-Q8_0.gguf") {
      const { fetch } = globalThis;
      globalThis.fetch = (url, options) => (String(url).includes("/api/") ? Promise.reject(new TypeError("offline")) : fetch(url, options));
      try {
        assert.deepEqual((await open(name)).files.map(({ name }) => name), names);
      } finally {
        globalThis.fetch = fetch;
      }
    }
    await clearWeights("own/other");
    assert.equal((await listWeights()).length, 1);
    await clearWeights(name);
    assert.deepEqual(await listWeights(), [], name);
  }
  await assert.rejects(open("own/gg:Q2_K"), code("bad_input", { field: "model" }));
  await assert.rejects(open("own/none"), (error) => error.code === "http_status" && error.status === 404 && /no public model own\/none/.test(error.message));
  await assert.rejects(open({ "x.gguf": "own/none:x.gguf" }), code("http_status"));
  const { name, repo, file } = JSON.parse(readFileSync(new URL("../../../../models.json", import.meta.url), "utf8"))[0];
  assert.deepEqual(nameSources(name).map(({ source }) => source), [`hub:${repo}:${file}`]);
  for (const address of ["./own/gg", "/own/gg", "own/m.gguf", "../own/gg", "own/gg/", "own/gg/m.gguf", "http://own/gg"]) {
    globalThis.location = { href: "http://page/" };
    try {
      assert.ok(nameSources(address)[0].source.startsWith("http://"), address);
    } finally {
      delete globalThis.location;
    }
  }
});

test("the URL of one shard stands for the whole model: downloaded, resumed, listed and removed", async () => {
  await server.close();
  const shard = (number) => `model-0000${number}-of-00003.gguf`;
  const contents = [bytes, randomBytes(3 * MIB), randomBytes(5)];
  server = await serve(Object.fromEntries(contents.map((content, at) => [`/s/${shard(at + 1)}`, content])), behaviour);
  const at = (number) => `${server.origin}/s/${shard(number)}?download=true`;
  const size = contents.reduce((sum, { length }) => sum + length, 0);
  const stop = new AbortController();
  const onProgress = (loaded) => loaded > bytes.length + MIB && stop.abort();
  const judge = async (files) => {
    for (const { size, read } of files) await read(0, Math.min(1000, size));
  };
  await assert.rejects(open(at(1), { signal: stop.signal, onProgress, judge }), code("aborted"));
  assert.deepEqual(await listWeights(), [{ source: at(1), name: shard(1), loaded: bytes.length, complete: false }]);

  const sent = server.sent();
  let told;
  const { files } = await open(at(2), { judge, onProgress: (...progress) => (told = progress) });
  assert.deepEqual(files.map(({ name }) => name), [1, 2, 3].map(shard));
  for (const [index, file] of files.entries()) {
    assert.equal(file.sha256, sha256(contents[index]));
    assert.ok(Buffer.from(await file.read(0, file.size)).equals(contents[index]));
  }
  assert.deepEqual(told, [size, size]);
  assert.ok(server.sent() - sent < bytes.length, "the first shard was downloaded again");
  assert.deepEqual(await listWeights(), [{ source: at(1), name: shard(1), size, loaded: size, complete: true }]);
  await clearWeights(at(1));
  assert.equal(disk.used, 0);
});

test("a list names each shard, and a file with no shard's name stands alone", async () => {
  const names = (model) => nameSources(model).map(({ name }) => name);
  const shard = (number, count = "00002") => `http://h/x-0000${number}-of-${count}.gguf`;
  assert.deepEqual(names([shard(2)]), ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"]);
  assert.deepEqual(names([shard(2), shard(1)]), ["x-00002-of-00002.gguf", "x-00001-of-00002.gguf"]);
  for (const url of [shard(3), shard(0), shard(1, "2"), "http://h/x-1-of-2.gguf", "http://h/x-00001-of-00002.safetensors", "http://h/a-00001-of-00002.gguf/"]) {
    assert.equal(names(url).length, 1, url);
  }
  assert.deepEqual(names(new File([], "x-00001-of-00002.gguf")), ["x-00001-of-00002.gguf"]);
  assert.deepEqual(nameSources({ "a.gguf": shard(1) }), [{ name: "a.gguf", source: shard(1) }]);
});

test("a page of HTML is not taken for a file, required or not", async () => {
  behaviour.fallback = true;
  await assert.rejects(open(`${server.origin}/other.gguf`), code("http_status", { status: 200 }));
  await server.close();
  const files = { "/d/config.json": Buffer.from("{}"), "/d/model.safetensors": bytes };
  server = await serve(files, behaviour);
  assert.deepEqual((await open(`${server.origin}/d/`)).files.map(({ name }) => name), ["config.json", "model.safetensors"]);
});

test("an index that points elsewhere is refused", async () => {
  for (const shard of ["../x.safetensors", "http://other/x.safetensors", "x.bin", 7]) {
    await server.close();
    server = await serve({ "/d/config.json": Buffer.from("{}"), "/d/model.safetensors.index.json": Buffer.from(JSON.stringify({ weight_map: { a: shard } })) });
    await assert.rejects(open(`${server.origin}/d/`), code("bad_model", { file: "model.safetensors.index.json" }));
  }
});

test("sources get their names from URLs, Files and records", () => {
  const named = nameSources([`${server.origin}/a%20b.gguf?download=true#x`, new File([], "c.json")]);
  assert.deepEqual(named.map(({ name }) => name), ["a b.gguf", "c.json"]);
  assert.equal(named[0].source, `${server.origin}/a%20b.gguf?download=true`);
  assert.deepEqual(nameSources({ "config.json": "http://h/x" })[0], { name: "config.json", source: "http://h/x" });
  assert.throws(() => nameSources([new Blob(), new Blob()]), code("bad_input"));
});

test("a model of several files is named by its directory, or at a hub by its repository", async () => {
  await server.close();
  const folders = ["Llama%20small", "owner/repo/resolve/main", "repo/raw/v1"];
  const files = {};
  for (const folder of folders) {
    for (const [name, content] of Object.entries({ "config.json": "{}", "model.safetensors": "weights" })) files[`/${decodeURIComponent(folder)}/${name}`] = Buffer.from(content);
  }
  server = await serve({ ...files, "/m.gguf": bytes, "/d/mine.safetensors": bytes });
  const called = async (model) => (await open(model)).name;
  for (const [index, name] of ["Llama small", "repo", "repo"].entries()) {
    const at = `${server.origin}/${folders[index]}/`;
    for (const model of [at, [`${at}config.json`, `${at}model.safetensors`]]) assert.equal(await called(model), name);
  }
  // As a person chooses a folder.
  const chosen = ["config.json", "model.safetensors"].map((name) => Object.defineProperty(new File(["{}"], name), "webkitRelativePath", { value: `models/Llama small/${name}` }));
  for (const model of [chosen, { "config.json": chosen[0], "model.safetensors": chosen[1] }]) assert.equal(await called(model), "Llama small");
  for (const model of [url(), `${server.origin}/d/mine.safetensors`, { "model.safetensors": new Blob() }]) assert.equal(await called(model), undefined);
});

test("the disk in memory behaves as the others do", async () => {
  const memory = new MemoryDisk();
  await memory.write("a/b", "c", new Uint8Array([1]));
  await memory.write("a", "d", new Uint8Array([2, 3]));
  assert.deepEqual([await memory.list("a", "files"), await memory.list("a", "folders")], [["d"], ["b"]]);
  assert.equal((await memory.read("a", "d")).size, 2);
  assert.deepEqual([await memory.remove("a", "d"), await memory.remove("a", "d")], [true, false]);
  await memory.removeFolder("a");
  assert.equal(await memory.read("a/b", "c"), undefined);
});
