"""Writes ../hash_vectors.json: the keys of src/kv/key.rs, computed from the specification by Python's hashlib alone."""

import hashlib
import json
import pathlib
import struct

TAGS = ["weights", "architecture", "rope", "kv_dtype", "kv_layout", "adapter", "salt", "numerics"]
PAGE = 16


def namespace(fields):
    data = b"headstart/ns/1"
    for tag in TAGS:
        for part in (tag.encode(), fields[tag].encode()):
            data += struct.pack("<Q", len(part)) + part
    return hashlib.sha256(data).digest()


def chain(parent, tokens):
    keys = []
    for begin in range(0, len(tokens), PAGE):
        block = tokens[begin : begin + PAGE]
        data = b"headstart/blk/1" + parent + struct.pack(f"<I{len(block)}I", len(block), *block)
        parent = hashlib.sha256(data).digest()
        keys.append(parent.hex())
    return keys


plain = dict.fromkeys(TAGS, "")
full = {
    "weights": "9f2a" * 16,
    "architecture": "llama/30/576/9/3/64",
    "rope": "base=100000",
    "kv_dtype": "f16",
    "kv_layout": "page16/1",
    "adapter": "",
    "salt": "",
    "numerics": "1",
}
fields = [
    plain,
    full,
    full | {"salt": "tenant-é-雪"},
    full | {"weights": full["rope"], "rope": full["weights"]},
    full | {"kv_dtype": "f16page16", "kv_layout": "/1"},
]
prompts = [[], [0], [0xFFFFFFFF], list(range(15)), list(range(16)), list(range(17)), [7] * 16, [7] * 32, [7] * 33]
vectors = []
for f in fields:
    root = namespace(f)
    for tokens in prompts:
        vectors.append({"fields": f, "tokens": tokens, "namespace": root.hex(), "keys": chain(root, tokens)})
# Each tag alone, and all with values of their own.
alone = [plain | {tag: "x"} for tag in TAGS]
for f in [*alone, {tag: f"the {tag}" for tag in TAGS}]:
    root = namespace(f)
    tokens = list(range(17))
    vectors.append({"fields": f, "tokens": tokens, "namespace": root.hex(), "keys": chain(root, tokens)})
path = pathlib.Path(__file__).parent.parent / "hash_vectors.json"
path.write_text(json.dumps({"page": PAGE, "vectors": vectors}, ensure_ascii=False, indent=1) + "\n")
