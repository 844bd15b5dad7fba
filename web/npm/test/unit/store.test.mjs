// KV on disk: order of use, budget, time to live, two tabs, full disks, and files without an index entry.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { openDisk } from "../../dist/disk/disk.js";
import { signOrigin } from "../../dist/kv/key.js";
import { Lru } from "../../dist/kv/lru.js";
import { DiskStore } from "../../dist/kv/store.js";
import { installBrowser, installKeys } from "../support/fakes.mjs";

const key = (index) => index.toString(16).padStart(64, "0");
const blob = (size, fill = 1) => new Uint8Array(size).fill(fill);
const TTL = 1e12;

let quota, now;
beforeEach(() => {
  quota = installBrowser();
  now = Date.now();
});

const open = async (options = {}) => DiskStore.open(await openDisk(), { budgetBytes: 1000, ttlMs: TTL, clock: () => now, ...options });
const present = async (store, count) => (await store.contains(Array.from({ length: count }, (_, index) => key(index)))).map(Number).join("");

test("the least recently used block is evicted first, a chain from its leaf", () => {
  const lru = new Lru();
  for (const name of ["root", "middle", "leaf", "other"]) lru.set(name, { bytes: 10, expires: Infinity });
  lru.touch(["root", "middle", "leaf"]);
  assert.deepEqual(lru.entries().map(([name]) => name), ["other", "leaf", "middle", "root"]);
  assert.deepEqual(lru.evict(20, 0), { expired: [], evicted: ["other", "leaf"] });
  assert.equal(lru.bytes, 20);
  lru.set("root", { bytes: 5, expires: 7 });
  assert.equal(lru.bytes, 15);
  assert.deepEqual(lru.evict(1000, 7), { expired: ["root"], evicted: [] });
  assert.deepEqual([lru.delete("middle"), lru.delete("middle"), lru.bytes], [true, false, 0]);
});

test("a block is found at once, and after a reload", async () => {
  const store = await open();
  const bytes = blob(100, 7);
  await store.put(key(1), bytes);
  assert.deepEqual(await store.get(key(1)), bytes);
  await store.flush();
  const again = await open();
  assert.deepEqual(await again.get(key(1)), bytes);
  assert.deepEqual(again.usage(), { entries: 1, bytes: 100, evicted: 0, failures: 0 });
  assert.equal(await again.get(key(2)), undefined);
  assert.equal(await again.get("../index.json"), undefined);
});

test("the budget holds, and a used block is evicted later, also after a reload", async () => {
  const store = await open({ budgetBytes: 400 });
  for (let index = 0; index < 4; index++) await store.put(key(index), blob(100));
  store.touch([key(0), key(1)]);
  await store.put(key(4), blob(100));
  await store.flush();
  assert.equal(await present(store, 5), "11011");
  const again = await open({ budgetBytes: 400 });
  await again.put(key(5), blob(100));
  await again.flush();
  assert.equal(await present(again, 6), "110011");
  await again.put(key(6), blob(100));
  await again.flush();
  // The chain 0, 1 was touched root last: 1 goes before 0.
  assert.equal(await present(again, 7), "1000111");
  assert.equal((await open({ budgetBytes: 100 })).usage().entries, 1);
});

test("a block that is larger than the budget or has no valid key is a counted failure", async () => {
  const store = await open();
  await store.put(key(1), blob(1001));
  await store.put("../escape", blob(1));
  assert.deepEqual(store.usage(), { entries: 0, bytes: 0, evicted: 0, failures: 2 });
});

test("entries expire after their own time to live, or the store's", async () => {
  const store = await open({ ttlMs: 1000 });
  await store.put(key(0), blob(1));
  await store.put(key(1), blob(1), 5000);
  await store.flush();
  now += 1000;
  assert.equal(await present(store, 2), "01");
  assert.equal(await store.get(key(0)), undefined);
  assert.equal((await open()).usage().entries, 1);
});

test("two tabs find each other's blocks, and neither forgets the other's", async () => {
  const [first, second] = [await open(), await open()];
  await first.put(key(0), blob(10));
  await first.flush();
  assert.equal(await present(second, 1), "1");
  assert.deepEqual(await second.get(key(0)), blob(10));
  await second.put(key(1), blob(20));
  await second.flush();
  await first.flush();
  assert.equal((await open()).usage().bytes, 30);
  assert.equal(first.usage().bytes, 30);
  await second.clear();
  assert.equal(await first.get(key(0)), undefined);
  await first.flush();
  assert.equal((await open()).usage().entries, 0);
});

test("a block of a closed page that no index lists is found", async () => {
  const disk = await openDisk();
  await disk.write("kv", key(3), blob(50));
  const store = await open();
  assert.deepEqual(store.usage(), { entries: 1, bytes: 50, evicted: 0, failures: 0 });
});

test("a damaged index costs the order alone", async () => {
  const store = await open();
  await store.put(key(0), blob(10));
  await store.flush();
  await (await openDisk()).write("kv", "index.json", new TextEncoder().encode("{"));
  assert.equal((await open()).usage().entries, 1);
});

test("a full disk shrinks the budget", async () => {
  const store = await open({ budgetBytes: 100_000 });
  quota.quota = quota.used + 250;
  for (let index = 0; index < 4; index++) await store.put(key(index), blob(100));
  await store.flush();
  assert.ok(store.usage().failures > 0);
  assert.ok(store.budget <= 250);
  quota.quota = 1e12;
  await store.put(key(9), blob(100));
  await store.flush();
  assert.deepEqual(await store.get(key(9)), blob(100));
});

test("the start of a block can be read alone, queued or written", async () => {
  const store = await open();
  await store.put(key(0), blob(100));
  assert.deepEqual(await store.get(key(0), 10), blob(100).slice(0, 10));
  await store.flush();
  assert.deepEqual(await store.get(key(0), 10), blob(100).slice(0, 10));
  assert.deepEqual(await store.get(key(0)), blob(100));
});

test("remove and clear reach queued blocks", async () => {
  const store = await open();
  await store.put(key(0), blob(10));
  await store.put(key(1), blob(10));
  assert.equal(await store.remove(key(0)), true);
  await store.flush();
  assert.equal(await present(store, 2), "01");
  await store.put(key(2), blob(10));
  await store.clear();
  await store.flush();
  assert.equal(await present(store, 3), "000");
  assert.equal((await open()).usage().entries, 0);
});

test("manifests have their own folder, and outlive blocks", async () => {
  const manifest = "0".repeat(48) + Buffer.from("manifest").toString("hex");
  const store = await open();
  await store.put(manifest, blob(7));
  for (let index = 0; index < 20; index++) await store.put(key(index), blob(400));
  await store.flush();
  assert.deepEqual(store.usage(), { entries: 2, bytes: 800, evicted: 18, failures: 0 });
  const again = await open();
  assert.deepEqual(await again.get(manifest), blob(7));
  assert.equal(await again.remove(manifest), true);
  await again.put(manifest, blob(9));
  await again.clear();
  assert.equal(await again.get(manifest), undefined);
});

test("the origin's key is made once, and again where something else took its place", async () => {
  const message = new Uint8Array(8);
  const keys = installKeys();
  const mac = async () => Buffer.from(await (await signOrigin())(message)).toString("hex");
  const first = await mac();
  assert.deepEqual([first.length, await mac()], [64, first]);
  const other = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt"]);
  const reader = await crypto.subtle.generateKey({ name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  for (const value of ["key", {}, { algorithm: { name: "HMAC" } }, other, reader]) {
    keys.set("kv", value);
    const made = await mac();
    assert.notEqual(made, first);
    assert.equal(await mac(), made, "and it is kept");
  }
  delete globalThis.indexedDB;
  assert.equal((await mac()).length, 64);
});
