// A model of the size of Llama 3.2 1B, in Node on Dawn, in little WebAssembly memory.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const SCRIPT = fileURLToPath(new URL("../../../../tests/browser/whole.mjs", import.meta.url));

test("1B answers", async (context) => {
  const { stdout } = await promisify(execFile)(process.execPath, [SCRIPT, "node", "4", "2"]);
  const { tokens, load_s, answer_s, peak_mib } = JSON.parse(stdout);
  context.diagnostic(`loaded in ${load_s} s, ${tokens} tokens in ${answer_s} s, ${peak_mib} MiB`);
  assert.equal(tokens, 2);
  assert.ok(peak_mib < 128, `${peak_mib} MiB`);
});
