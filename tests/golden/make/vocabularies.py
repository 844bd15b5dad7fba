"""Writes vocabularies/NAME.json: the parts of llama.cpp's test vocabularies that its test lines need.

usage: vocabularies.py MODELS             (package: gguf) writes the files
       vocabularies.py MODELS HEADSTART   checks the program against the whole vocabularies instead

MODELS is llama.cpp's folder `models`, with `ggml-vocab-NAME.gguf`, its lines `.inp`, and their ids `.out` by Hugging Face. A token is
kept if its spelling occurs in a line: no split or merge can yield another token. Its id is its index among the tokens that are
kept.
"""

import json
import pathlib
import subprocess
import sys
import warnings

from gguf import GGUFReader

HERE = pathlib.Path(__file__).parent.parent
LIST, NORMAL, BYTE = ("tokens", "token_type", "merges", "scores"), 1, 6


def byte_table():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + at) for at, byte in enumerate(others)}


TABLE = byte_table()


def read(path):
    lines = path.with_suffix(".gguf.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    ids = [[int(id) for id in line.split()] for line in path.with_suffix(".gguf.out").read_text().split("\n")]
    lines = lines[: len(ids)] if lines[-1] == "" else lines
    fields = GGUFReader(path).fields
    keys = {name.removeprefix("tokenizer.ggml."): field.contents() for name, field in fields.items() if "ggml" in name}
    return keys, lines, ids[: len(lines)]


def cut(keys, lines, ids):
    tokens, types = keys["tokens"], keys["token_type"]
    if keys["model"] == "gpt2":
        texts = ["".join(TABLE[byte] for byte in line.encode()) for line in lines]
    else:
        texts = ["▁" + line.replace(" ", "▁") for line in lines]
    used = {id for line in ids for id in line}
    special = {keys[name] for name in keys if name.endswith("_token_id") and keys[name] < len(tokens)}

    def stays(id):
        whole = id in used or id in special or types[id] not in (NORMAL, BYTE) and any(tokens[id] in line for line in lines)
        return whole or types[id] != BYTE and any(tokens[id] in text for text in texts)

    kept = [id for id in range(len(tokens)) if stays(id)]
    place = {id: at for at, id in enumerate(kept)}
    known = {tokens[id] for id in kept}
    out = {name: value for name, value in keys.items() if name not in LIST and not isinstance(value, (list, bytes))}
    out |= {name: place.get(value, 0xFFFFFFFF) for name, value in keys.items() if name.endswith("_token_id")}
    out |= {name: [keys[name][id] for id in kept] for name in ("tokens", "token_type", "scores") if name in keys}
    merges = [merge.split(" ") for merge in keys.get("merges", []) if merge.count(" ") == 1]
    out["merges"] = [" ".join(merge) for merge in merges if known.issuperset([*merge, "".join(merge)])]
    return {"vocabulary": out, "lines": [[line, [place[id] for id in found]] for line, found in zip(lines, ids)]}


def check(program, path, lines, ids):
    wrong = 0
    # The program requires at least one character.
    given = [(line, expected) for line, expected in zip(lines, ids) if line]
    for line, expected in given:
        command = [program, "tokenize", "--model", path, "--no-bos", "--json", "--prompt-file", "-"]
        run = subprocess.run(command, input=line.encode(), capture_output=True)
        found = json.loads(run.stdout)["token_ids"] if run.returncode == 0 else run.stderr.decode()
        wrong += found != expected
    print(f"{path.stem}: {len(given)} lines, {wrong} wrong", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for path in sorted(pathlib.Path(sys.argv[1]).glob("ggml-vocab-*.gguf")):
        if not path.with_suffix(".gguf.inp").exists():
            continue
        keys, lines, ids = read(path)
        if keys["model"] not in ("gpt2", "llama", "gemma4"):
            print(f"{path.stem}: {keys['model']} is not a supported kind")
        elif len(sys.argv) > 2:
            check(sys.argv[2], path, lines, ids)
        else:
            folder = HERE / "vocabularies"
            folder.mkdir(exist_ok=True)
            text = json.dumps(cut(keys, lines, ids), ensure_ascii=False, separators=(",", ":"))
            (folder / f"{path.stem.removeprefix('ggml-vocab-')}.json").write_text(text + "\n")
