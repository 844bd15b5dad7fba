/** Refuses to publish a package that does not name its source, its home page and its issues. `npm publish` runs this. */
import { readFileSync } from "node:fs";
import { exit } from "node:process";

const addresses = {
  repository: "repository.type=git repository.url=git+https://HOST/OWNER/headstart.git",
  homepage: "homepage=https://HOST/OWNER/headstart#readme",
  bugs: "bugs.url=https://HOST/OWNER/headstart/issues",
};
const named = JSON.parse(readFileSync("package.json", "utf8"));
const missing = Object.keys(addresses).filter((field) => !named[field]);
if (missing.length > 0) {
  console.error(`package.json does not name its ${missing.join(", ")}. Set them before publishing:`);
  console.error(`  npm pkg set ${missing.map((field) => addresses[field]).join(" ")}`);
  exit(1);
}
