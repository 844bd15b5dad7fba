#!/usr/bin/env python3
"""Writes a GGUF with a real model's shape and random weights, to measure speed alone: synthetic.py SHAPE OUT.gguf [--type q4_0|q8_0]

Blocks are random bytes with a small scale, so that activations stay finite; one megabyte of them is repeated. The tokenizer has a
token for each byte. Standard library only."""
import argparse
import random
import struct

SHAPES = {
    "tiny": dict(layers=2, hidden=256, inner=512, heads=4, kv=2, dim=64, vocab=32768, tied=True),
    "135m": dict(layers=30, hidden=576, inner=1536, heads=9, kv=3, dim=64, vocab=49152, tied=True),
    "1b": dict(layers=16, hidden=2048, inner=8192, heads=32, kv=8, dim=64, vocab=128256, tied=True),
    "8b": dict(layers=32, hidden=4096, inner=14336, heads=32, kv=8, dim=128, vocab=128256, tied=False),
}
# For each type: its number in GGUF, the bytes of a block of 32, and its scale.
F32 = (0, 128, None)
TYPES = {"q4_0": (2, 18, 0.006), "q8_0": (8, 34, 0.0003)}
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
REPEATED = 1 << 15
ALIGNMENT = 32


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pack(kind, value):
    if kind == STRING:
        return text(value)
    return struct.pack({UINT32: "<I", FLOAT32: "<f", BOOL: "<?", INT32: "<i"}[kind], value)


def field(key, kind, value):
    if not isinstance(value, list):
        return text(key) + struct.pack("<I", kind) + pack(kind, value)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(pack(kind, item) for item in value)


def vocabulary(size):
    """GPT-2's character for each byte, one merge, and tokens that no text contains."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    letters = [chr(byte if byte in plain else next(others)) for byte in range(256)]
    return [*letters, "th", *(f"<|{at}|>" for at in range(257, size))]


def fields(shape):
    number = lambda key, value: field(f"llama.{key}", UINT32, value)
    tokens = vocabulary(shape["vocab"])
    return [
        field("general.architecture", STRING, "llama"),
        number("context_length", 32768),
        number("embedding_length", shape["hidden"]),
        number("block_count", shape["layers"]),
        number("feed_forward_length", shape["inner"]),
        number("attention.head_count", shape["heads"]),
        number("attention.head_count_kv", shape["kv"]),
        number("rope.dimension_count", shape["dim"]),
        number("vocab_size", shape["vocab"]),
        field("llama.rope.freq_base", FLOAT32, 500000.0),
        field("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        field("tokenizer.ggml.model", STRING, "gpt2"),
        field("tokenizer.ggml.pre", STRING, "gpt-2"),
        field("tokenizer.ggml.tokens", STRING, tokens),
        field("tokenizer.ggml.token_type", INT32, [1] * len(tokens)),
        field("tokenizer.ggml.merges", STRING, ["t h"]),
        field("tokenizer.ggml.bos_token_id", UINT32, 257),
        field("tokenizer.ggml.eos_token_id", UINT32, 258),
        field("tokenizer.ggml.add_bos_token", BOOL, False),
    ]


def tensors(shape, kind):
    """`(name, rows, columns, type)` of each tensor; a vector has no rows."""
    hidden, inner, queries, keys = shape["hidden"], shape["inner"], shape["heads"] * shape["dim"], shape["kv"] * shape["dim"]
    yield "token_embd.weight", shape["vocab"], hidden, TYPES["q8_0"]
    for layer in range(shape["layers"]):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", None, hidden, F32
        yield block + "ffn_norm.weight", None, hidden, F32
        yield block + "attn_q.weight", queries, hidden, kind
        yield block + "attn_k.weight", keys, hidden, kind
        yield block + "attn_v.weight", keys, hidden, kind
        yield block + "attn_output.weight", hidden, queries, kind
        yield block + "ffn_gate.weight", inner, hidden, kind
        yield block + "ffn_up.weight", inner, hidden, kind
        yield block + "ffn_down.weight", hidden, inner, kind
    yield "output_norm.weight", None, hidden, F32
    if not shape["tied"]:
        yield "output.weight", shape["vocab"], hidden, TYPES["q8_0"]


def blocks(kind):
    """`REPEATED` blocks of a type."""
    _, size, scale = kind
    if scale is None:
        return struct.pack("<f", 1.0) * 32 * REPEATED
    data = bytearray(random.Random(0).randbytes(size * REPEATED))
    for at, byte in enumerate(struct.pack("<e", scale)):
        data[at::size] = bytes([byte]) * REPEATED
    return bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out")
    parser.add_argument("--type", choices=TYPES, default="q4_0", help="of the layers; embeddings are Q8_0 [%(default)s]")
    args = parser.parse_args()
    shape, made = SHAPES[args.shape], {}
    metadata, infos, sizes, offset = fields(shape), [], [], 0
    for name, rows, columns, kind in tensors(shape, TYPES[args.type]):
        lengths = [columns] if rows is None else [columns, rows]
        infos.append(text(name) + struct.pack(f"<I{len(lengths)}QIQ", len(lengths), *lengths, kind[0], offset))
        size = columns * (rows or 1) // 32 * kind[1]
        sizes.append((kind, size))
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    with open(args.out, "wb") as out:
        pad = lambda: out.write(bytes(-out.tell() % ALIGNMENT))
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(metadata)) + b"".join(metadata) + b"".join(infos))
        pad()
        for kind, size in sizes:
            data = made[kind] if kind in made else made.setdefault(kind, blocks(kind))
            for begin in range(0, size, len(data)):
                out.write(data[: size - begin])
            pad()


if __name__ == "__main__":
    main()
