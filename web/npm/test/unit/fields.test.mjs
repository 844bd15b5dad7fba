// The fields of a request are the same in the types and in the engine's table.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { READ, UNCHANGING } from "../support/fields.mjs";

const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
/** The engine's own form of a prompt, and a request for logits, which the package does not expose. */
const INTERNAL = ["logits", "tokens"];

test("the engine's table has the fields of the tests' requests", () => {
  const table = readFileSync(new URL("../../../../src/engine/fields.rs", import.meta.url), "utf8");
  const list = (name) => [...new RegExp(`const ${name}: .*?\\[([^]*?)\\];`).exec(table)[1].matchAll(/"(\w+)"/g)].map(([, field]) => field);
  const fixed = [...table.matchAll(/fixed\(\s*"(\w+)",\s*(\|_, _\| false)?/g)];
  const accepted = fixed.filter(([, , isRefused]) => !isRefused).map(([, field]) => field);
  assert.ok(accepted.length > 10 && accepted.length < fixed.length, `${accepted}`);
  assert.deepEqual(Object.keys(READ).sort(), list("READ").filter((field) => !INTERNAL.includes(field)).sort());
  assert.deepEqual(Object.keys(UNCHANGING).sort(), [...list("IDLE"), ...accepted].sort());
});

test("the types have exactly these fields", () => {
  const options = ["--noEmit", "--checkJs", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--lib", "es2024,dom,dom.asynciterable", "--module", "nodenext", "--types", ""];
  try {
    execFileSync("node_modules/.bin/tsc", [...options, "--ignoreConfig", "test/support/fields.mjs"], { cwd: PACKAGE, encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    assert.fail(error.stdout);
  }
});
