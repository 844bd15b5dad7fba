// What the reference says, read from tests/golden.

import { readFile } from "node:fs/promises";

const folder = new URL("../golden/", import.meta.url);

export const json = async (name) => JSON.parse(await readFile(new URL(name, folder), "utf8"));

/** The row of an array of float32 that numpy wrote; the last by default. */
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

/** How far two rows are apart at most. */
export function distance(a, b) {
  if (a.length !== b.length) return Infinity;
  return a.reduce((most, value, at) => Math.max(most, Math.abs(value - b[at])), 0);
}

/** The greedy tokens up to where the reference's two best were nearer than the tolerance: there tokens may part honestly. */
export function decided(greedy, gaps, tolerance, most) {
  const close = gaps.findIndex((gap) => gap < tolerance);
  return greedy.slice(0, Math.min(most, close < 0 ? greedy.length : close));
}
