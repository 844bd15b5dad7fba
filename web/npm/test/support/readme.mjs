// The samples of the package's README.
import { readFileSync } from "node:fs";

/** The code of its blocks in `js` and `ts`, in order. */
export const samples = [...readFileSync(new URL("../../README.md", import.meta.url), "utf8").matchAll(/```(?:js|ts)\n([^]*?)```/g)].map(([, code]) => code);

/** The block that begins with this text, or else contains it. */
export function sample(text) {
  const found = samples.filter((code) => code.includes(text));
  if (found.length !== 1) throw new Error(`${found.length} samples have ${text}`);
  return found[0];
}
