// Decides by their first bytes and names what chosen or dropped files are, before the page uses them.

export type Verdict =
  | { kind: "model"; files: readonly File[] }
  | { kind: "pack"; file: File }
  /** `why` is a sentence. */
  | { kind: "wrong"; why: string };

const SHARD = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;
/** Bytes that tell what a file is. A safetensors header is looked at no further. */
const HEAD = 64 << 10;

const MODEL = "A model is a GGUF file, or safetensors with config.json and tokenizer.json";

type Kind = "gguf" | "pack" | "safetensors" | "json" | "empty" | "unreadable" | "page" | "pointer" | "zip" | "other";

const WRONG: Partial<Record<Kind, string>> = {
  empty: "is empty",
  unreadable: "cannot be read. Drop files, not a folder",
  page: "is a web page, not a model. The download may have given a page instead of the file",
  pointer: "only points to a model (Git LFS). Download the file itself",
  zip: "is a zip archive or a PyTorch file. A model is a GGUF file or safetensors",
};

export async function judge(files: readonly File[]): Promise<Verdict> {
  const found = await Promise.all(files.map(async (file) => ({ file, kind: await kindOf(file) })));
  const of = (kind: Kind) => found.filter((one) => one.kind === kind).map(({ file }) => file);
  const [ggufs, weights, [pack]] = [of("gguf"), of("safetensors"), of("pack")];
  if (ggufs.length > 0) return shards(ggufs);
  if (weights.length > 0) {
    if (of("json").some(({ name }) => name === "config.json")) return { kind: "model", files };
    return wrong(`“${weights[0]!.name}” needs config.json and tokenizer.json beside it. Choose or drop them together.`);
  }
  if (pack) return { kind: "pack", file: pack };
  const [first] = found;
  const why = first && WRONG[first.kind];
  return wrong(why ? `“${first.file.name}” ${why}.` : `“${first?.file.name ?? ""}” is not a model. ${MODEL}.`);
}

const wrong = (why: string): Verdict => ({ kind: "wrong", why });

/** GGUF files are one model: one file, or all shards of one. */
function shards(files: readonly File[]): Verdict {
  const parts = files.map(({ name }) => SHARD.exec(name));
  const stems = new Set(files.map(({ name }, index) => parts[index]?.[1] ?? name));
  if (stems.size > 1) return wrong(`These are ${stems.size} models. Choose one of them.`);
  const missing = Number(parts[0]?.[3] ?? 1) - new Set(parts.map((part) => part?.[2])).size;
  if (missing > 0) return wrong(`${missing === 1 ? "One part" : `${missing} parts`} of “${[...stems][0]}” ${missing === 1 ? "is" : "are"} missing. Choose or drop all ${parts[0]![3]!.replace(/^0+/, "")} together.`);
  return { kind: "model", files };
}

async function kindOf(file: File): Promise<Kind> {
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
  } catch {
    return "unreadable";
  }
  const text = new TextDecoder().decode(bytes);
  if (bytes.length === 0) return "empty";
  if (text.startsWith("GGUF")) return "gguf";
  if (text.startsWith("PK\u0003\u0004")) return "zip";
  if (text.startsWith("version https://git-lfs")) return "pointer";
  if (/^\s*<(!doctype|html|\?xml)/i.test(text)) return "page";
  // The length of the header in eight bytes, and the header.
  if (bytes[8] === 0x7b && bytes[6] === 0 && bytes[7] === 0) return /"format"\s*:\s*"headstart-pack/.test(text) ? "pack" : "safetensors";
  return /^\s*[{[]/.test(text) ? "json" : "other";
}
