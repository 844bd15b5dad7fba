#!/usr/bin/env python3
"""Converts a GGUF to the folder that Transformers.js loads, with 4-bit weights and f32 activations: onnx_model.py MODEL.gguf FOLDER"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import onnx
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, out = Path(sys.argv[1]), Path(sys.argv[2])
with tempfile.TemporaryDirectory() as work:
    plain, built = Path(work, "plain"), Path(work, "built")
    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # A model read from a GGUF counts as quantised and cannot be saved.
    settings = {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(read.config)(**settings), dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.save_pretrained(plain)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(plain)
    options = ["use_webgpu_fp32=1", "shared_embeddings=false", "int4_tied_embeddings=false"]
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", plain, "-o", built, "-p", "int4", "-e", "webgpu"]
    subprocess.run([*builder, "-c", Path(work, "cache"), "--extra_options", *options], check=True, stdout=sys.stderr)
    graph = onnx.load(built / "model.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "model_q4.onnx_data"
    # Transformers.js makes the empty cache from these shapes, so the head size must be a number.
    head = model.config.head_dim or model.config.hidden_size // model.config.num_attention_heads
    for value in [*graph.graph.input, *graph.graph.output]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == "kv_cache_dim":
                size.dim_value = head
    (out / "onnx").mkdir(parents=True, exist_ok=True)
    onnx.save(graph, out / "onnx/model_q4.onnx")
    shutil.copy(built / "model.onnx.data", out / "onnx/model_q4.onnx_data")
    for file in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(plain / file, out)
    config = json.loads((plain / "config.json").read_text())
    config["transformers.js_config"] = {"use_external_data_format": {"model_q4.onnx": 1}, "kv_cache_dtype": {"q4": "float32"}}
    (out / "config.json").write_text(json.dumps(config, indent=1))
