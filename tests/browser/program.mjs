// Runs the native program, to exchange packs with it.

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

import { ROOT } from "./server.mjs";
import { tinyFiles } from "./tiny.mjs";

const PROGRAM = path.join(path.resolve(ROOT, process.env.MADE ?? "target"), "debug/headstart");

/** Calls `work(run, folder)`. `run(...args)` returns the program's output. `folder` contains a tiny model, `model`. */
export async function withProgram(work) {
  const folder = await mkdtemp(path.join(tmpdir(), "headstart-program-"));
  try {
    await mkdir(path.join(folder, "model"));
    for (const file of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
      await writeFile(path.join(folder, "model", file), await tinyFiles(ROOT, `/tiny/tiny-odd-f16/${file}`));
    }
    const env = { ...process.env, HEADSTART_KV_KEY: path.join(folder, "kv.key") };
    const run = async (...args) => (await promisify(execFile)(PROGRAM, args, { env, maxBuffer: 1 << 24 })).stdout;
    return await work(run, folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
