// What a page downloads of the engine, made shorter: wasm-bindgen calls each import by a name with a digest, which no compression
// shortens, and writes comments.

const IMPORTS = 2;
const FUNCTION = 0;
const DIGEST = /\b__wbg_\w+_[0-9a-f]{16}\b/g;

/** The module's JavaScript and its WebAssembly with numbers for such names, the same in both. */
export function shorten(script, wasm) {
  const names = [...new Set(script.match(DIGEST))];
  const short = new Map(names.map((name, index) => [name, `i${index}`]));
  const bare = script.replace(/^[ \t]*\/\*\*\n(?:[ \t]*\*.*\n)*?[ \t]*\*\/\n/gm, "").replace(DIGEST, (name) => short.get(name));
  return [bare, withImports(wasm, (name) => short.get(name) ?? name)];
}

/** A WebAssembly module whose imports, which are functions all, are called otherwise. */
function withImports(wasm, rename) {
  let at = 8;
  const number = () => {
    for (let value = 0, shift = 0; ; shift += 7) {
      const byte = wasm[at++];
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  const text = () => {
    const length = number();
    return wasm.toString("utf8", at, (at += length));
  };
  while (at < wasm.length) {
    const begin = at;
    const id = wasm[at++];
    const size = number();
    const end = at + size;
    if (id !== IMPORTS) {
      at = end;
      continue;
    }
    const count = number();
    const entries = Array.from({ length: count }, () => {
      const entry = [named(text()), named(rename(text()))];
      if (wasm[at++] !== FUNCTION) throw new Error("the engine's module imports what is no function");
      return Buffer.concat([...entry, Buffer.of(FUNCTION), leb(number())]);
    });
    const section = Buffer.concat([leb(count), ...entries]);
    return Buffer.concat([wasm.subarray(0, begin), Buffer.of(IMPORTS), leb(section.length), section, wasm.subarray(end)]);
  }
  return wasm;
}

function named(text) {
  const bytes = Buffer.from(text);
  return Buffer.concat([leb(bytes.length), bytes]);
}

/** A number as WebAssembly has them. */
function leb(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) + 128);
  return Buffer.of(...bytes, number);
}
