// Models that are known by name: the repository's list, each with its address.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Headstart } from "../../dist/index.js";
import { Headstart as Worker } from "../../dist/worker.js";

test("Headstart.models is models.json, with the address of each file", () => {
  const listed = JSON.parse(readFileSync(new URL("../../../../models.json", import.meta.url), "utf8"));
  assert.ok(listed.length > 10);
  assert.deepEqual(Headstart.models.map(({ url, ...rest }) => rest), listed);
  for (const { url, repo, file } of Headstart.models) assert.equal(new URL(url).pathname, `/${repo}/resolve/main/${file}`);
  assert.equal(Worker.models, Headstart.models);
});
