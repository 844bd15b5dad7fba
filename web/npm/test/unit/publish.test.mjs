/** What `npm publish` requires of the package before it uploads anything. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const root = new URL("../../", import.meta.url);
const script = new URL("scripts/addresses.mjs", root).pathname;

test("a package without its addresses is not published, and the message says how to set them", () => {
  const manifest = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));
  assert.equal(manifest.scripts.prepublishOnly, "node scripts/addresses.mjs");
  const folder = mkdtempSync(join(tmpdir(), "publish-"));
  const publish = () => spawnSync(process.execPath, [script], { cwd: folder, encoding: "utf8" });
  try {
    const { repository, homepage, bugs, ...bare } = manifest;
    writeFileSync(join(folder, "package.json"), JSON.stringify(bare));
    const refused = publish();
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /does not name its repository, homepage, bugs/);
    const command = refused.stderr.split("\n")[1].trim().split(" ");
    execFileSync(command[0], command.slice(1), { cwd: folder });
    assert.equal(publish().status, 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
