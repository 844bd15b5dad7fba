"""Reference for the base model Gemma 3 270M, from its Q4_K_M GGUF: `python gemma3.py MODEL.gguf`.

The text repeats random words with a period of 511 tokens, so that the source of each copy is at the edge of the window of 512.
A window that is one token longer or shorter changes some log-probability by more than 1; the change is printed.

Needs torch, transformers, gguf, sentencepiece.
"""
import json
import os
import random
import re
import sys

import numpy as np
import torch
import transformers
from gguf import GGUFReader
from gguf.quants import dequantize

import common

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
PERIOD = 511
TOKENS = 2 * PERIOD + 90
PROMPT = ("The days of the week are Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday. The months of the year "
          "are January, February,")


def read(path, window=None):
    """The file's model; RoPE base of the window layers, layer pattern and query scale are those of the released model."""
    reader = GGUFReader(path)
    field = lambda key: reader.fields[key].contents()
    own = lambda key: field(f"gemma3.{key}")
    layers = own("block_count")
    config = transformers.Gemma3TextConfig(
        vocab_size=len(field("tokenizer.ggml.tokens")), hidden_size=own("embedding_length"), num_hidden_layers=layers,
        intermediate_size=own("feed_forward_length"), num_attention_heads=own("attention.head_count"),
        num_key_value_heads=own("attention.head_count_kv"), head_dim=own("attention.key_length"),
        max_position_embeddings=own("context_length"), rms_norm_eps=float(own("attention.layer_norm_rms_epsilon")),
        sliding_window=window or own("attention.sliding_window"), query_pre_attn_scalar=256,
        layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(layers)],
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": float(own("rope.freq_base"))},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}},
        attn_implementation="eager")
    model = transformers.Gemma3ForCausalLM(config).float().eval()
    names = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
             "attn_k_norm": "self_attn.k_norm", "post_attention_norm": "post_attention_layernorm",
             "ffn_norm": "pre_feedforward_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj", "post_ffw_norm": "post_feedforward_layernorm"}
    state = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = torch.from_numpy(values.copy()).reshape([int(n) for n in reversed(tensor.shape)])
        if tensor.name.endswith("norm.weight"):
            values = values - 1
        part = tensor.name.removesuffix(".weight").split(".")
        name = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}.get(part[0])
        state[f"{name or f'model.layers.{part[1]}.{names[part[2]]}'}.weight"] = values
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
    model.tie_weights()
    return model, field("tokenizer.ggml.tokens")


@torch.no_grad()
def logprobs(model, ids):
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    rows = torch.log_softmax(logits.double(), -1)
    return np.array([float(rows[i, ids[i + 1]]) for i in range(len(ids) - 1)])


def main(path):
    model, tokens = read(path)
    words = [i for i, token in enumerate(tokens) if token.startswith("▁") and token[1:].isascii() and token[1:].isalpha()
             and token[1:].islower() and 4 <= len(token) <= 8]
    drawn = random.Random(270).sample(words, PERIOD)
    ids = [2] + [drawn[i % PERIOD] for i in range(TOKENS - 1)]
    text = "".join(tokens[i].replace("▁", " ") for i in ids[1:])
    exact = logprobs(model, ids)
    for window in (511, 513):
        other = logprobs(read(path, window)[0], ids)
        print(f"a window of {window} moves a log-probability by up to", np.abs(other - exact).max(), file=sys.stderr)
    half, _ = common.half_cache_effect(model, ids, model(torch.tensor([ids])).logits[0].detach().numpy())
    print("f16 KV moves logits by up to", half, file=sys.stderr)
    # Every word and every punctuation mark is one token.
    at = {token: i for i, token in enumerate(tokens)}
    prompt = [2] + [at[piece.replace(" ", "▁")] for piece in re.findall(r" ?\w+|[.,]", PROMPT)]
    _, record = common.run(model, prompt)
    json.dump({"transformers": transformers.__version__, "text": text, "ids": ids,
               "logprobs": [round(x, 4) for x in exact.tolist()],
               "greedy_prompt": PROMPT, "greedy_prompt_tokens": len(prompt), "greedy32": record["greedy32"], "greedy_top2_gap": record["greedy_top2_gap"]},
              open(f"{GOLDEN}/gemma3.json", "w"))


if __name__ == "__main__":
    main(sys.argv[1])
