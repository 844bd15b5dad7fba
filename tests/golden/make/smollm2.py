"""References for SmolLM2-135M-Instruct, from its GGUF: `python smollm2.py MODEL.gguf [HF_DIR]`.

1. The prompts of ../golden.json on the GGUF's own weights: checked against what is committed, and the gap between the two
   best logits of every position added in ../positions.json.
2. The same on the f16 safetensors directory that `save_pretrained` makes of the model, left in HF_DIR: ../smollm2-hf/ gets
   its JSON files, a digest of its tensors, and the reference.

Needs torch, transformers, gguf, safetensors, accelerate.
"""
import hashlib
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

import common

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
FULL_LOGITS = ("english", "chinese", "long")
TOP = 64


def tensor_digest(path):
    """SHA-256 over name, newline, raw little-endian bytes of every tensor in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        digest.update(name.encode() + b"\n")
        digest.update(tensor.contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def main(gguf, directory):
    golden = json.load(open(f"{GOLDEN}/golden.json"))
    model = common.gguf_model(gguf)
    positions, effects = {}, {}
    for name, prompt in golden["prompts"].items():
        logits, record = common.run(model, prompt["ids"])
        committed = np.load(f"{GOLDEN}/{prompt['logits_file']}")
        print(name, "differs from the committed reference by", np.abs(logits[-1] - committed).max(), file=sys.stderr)
        assert record["greedy32"] == prompt["greedy32"], name
        assert record["argmax_every_position"] == prompt["argmax_every_position"], name
        positions[name] = record["top2_gap_every_position"]
        effects[name] = common.half_cache_effect(model, prompt["ids"], logits)
    print("f16 KV moves (every position, last position):", effects, file=sys.stderr)
    json.dump(positions, open(f"{GOLDEN}/positions.json", "w"))

    folder, file = os.path.split(gguf)
    model.to(torch.float16).save_pretrained(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    tokenizer.save_pretrained(directory)
    out = f"{GOLDEN}/smollm2-hf"
    os.makedirs(out, exist_ok=True)
    files = sorted(f for f in os.listdir(directory) if not f.endswith(".safetensors"))
    for f in files:
        shutil.copy(f"{directory}/{f}", f"{out}/{f}")

    model = common.load(directory)
    prompts = {}
    for name, prompt in golden["prompts"].items():
        logits, record = common.run(model, prompt["ids"])
        if name in FULL_LOGITS:
            record["logits_file"] = f"{name}.last_logits.npy"
            np.save(f"{out}/{record['last_logits']}", logits[-1])
        else:
            top = np.argsort(-logits[-1], kind="stable")[:TOP]
            record["last_top"] = [[int(i), float(logits[-1][i])] for i in top]
        prompts[name] = record
        print(name, "f16 KV moves (every position, last position):",
              common.half_cache_effect(model, prompt["ids"], logits), file=sys.stderr)
    json.dump({"torch": torch.__version__, "transformers": transformers.__version__, "files": files,
               "tensors_sha256": tensor_digest(f"{directory}/model.safetensors"), "prompts": prompts},
              open(f"{out}/reference.json", "w"))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(sys.argv[1], sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(sys.argv[1], scratch)
