/** The secret of this user, which the command line shares: 32 bytes as hexadecimal digits in a file that only its owner can read. */

import { link, mkdir, open, unlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import process from "node:process";
import { HeadstartError } from "../errors.js";

const DIGITS = /^([0-9a-f]{64})\n?$/i;

function keyFile(): string {
  const { env, platform } = process;
  const given = platform === "win32" ? env.APPDATA : env.XDG_DATA_HOME;
  const usual = platform === "win32" ? "AppData/Roaming" : ".local/share";
  return env.HEADSTART_KV_KEY || join(given && isAbsolute(given) ? given : join(homedir(), usual), "headstart", "kv.key");
}

/** @throws {HeadstartError} `storage` where it is another file, open to others, or cannot be made */
export async function readKey(path = keyFile()): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await read(path).catch(async (error) => {
      if (error?.code !== "ENOENT") throw error;
      await make(path);
      return read(path);
    });
  } catch (error) {
    const message = `the secret in ${path}: ${(error as Error)?.message}; name another file in HEADSTART_KV_KEY`;
    throw new HeadstartError("storage", message, {}, error);
  }
}

async function read(path: string): Promise<Uint8Array<ArrayBuffer>> {
  const file = await open(path, "r");
  try {
    const { mode } = await file.stat();
    if (process.platform !== "win32" && (mode & 0o077) !== 0) throw new Error("others may read or write it; remove it, or give it mode 600 if nobody has");
    const bytes = new Uint8Array(66);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    const digits = DIGITS.exec(new TextDecoder().decode(bytes.subarray(0, bytesRead)))?.[1];
    if (!digits) throw new Error("it does not hold 64 hexadecimal digits");
    return Uint8Array.from(digits.match(/../g)!, (pair) => Number.parseInt(pair, 16));
  } finally {
    await file.close();
  }
}

/** If two processes create the file at the same time, one succeeds and both read its result. */
async function make(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  const file = await open(temporary, "wx", 0o600);
  try {
    const secret = crypto.getRandomValues(new Uint8Array(32));
    const digits = Array.from(secret, (byte) => byte.toString(16).padStart(2, "0")).join("");
    await file.writeFile(new TextEncoder().encode(`${digits}\n`));
    await file.datasync();
  } finally {
    await file.close();
  }
  try {
    await link(temporary, path).catch((error) => {
      if (error?.code !== "EEXIST") throw error;
    });
  } finally {
    await unlink(temporary);
  }
}
