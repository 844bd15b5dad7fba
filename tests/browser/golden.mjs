// Reads reference results from tests/golden.

import { readFile } from "node:fs/promises";

const folder = new URL("../golden/", import.meta.url);

export const json = async (name) => JSON.parse(await readFile(new URL(name, folder), "utf8"));

/** A row of a float32 array in numpy's format. Default: the last row. */
export async function row(name, at = -1) {
  const bytes = await readFile(new URL(name, folder));
  const header = bytes.subarray(10, 10 + bytes.readUInt16LE(8)).toString("latin1");
  if (!header.includes("'<f4'")) throw new Error(`${name}: ${header}`);
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((size) => size.trim()).map(Number);
  const columns = shape.at(-1);
  const rows = shape.length > 1 ? shape[0] : 1;
  const begin = 10 + bytes.readUInt16LE(8) + 4 * columns * (at < 0 ? rows + at : at);
  return Array.from({ length: columns }, (_, column) => bytes.readFloatLE(begin + 4 * column));
}

/** The largest difference between two rows. */
export function distance(a, b) {
  if (a.length !== b.length) return Infinity;
  return a.reduce((most, value, at) => Math.max(most, Math.abs(value - b[at])), 0);
}

/** The greedy tokens until the reference's two best logits are closer than the tolerance. From there on tokens may differ. */
export function decided(greedy, gaps, tolerance, most) {
  const close = gaps.findIndex((gap) => gap < tolerance);
  return greedy.slice(0, Math.min(most, close < 0 ? greedy.length : close));
}
