/** The oldest Node that the package runs on. */

import process from "node:process";
import { HeadstartError } from "../errors.js";

const OLDEST = [20, 19] as const;

/** @throws {HeadstartError} `old_node` where Node is older */
export function requireNode(): void {
  const { node } = process.versions;
  const [major = 0, minor = 0] = node.split(".").map(Number);
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
  throw new HeadstartError("old_node", `headstart needs Node ${OLDEST.join(".")} or newer, and this is Node ${node}; update Node`);
}
