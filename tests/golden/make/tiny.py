"""Makes tiny random models with awkward shapes, saved by `save_pretrained`, with references: `python tiny.py [NAME...]`.

Each is drawn in float32, saved in its own type, read back, and only then run, so that the reference belongs to the stored weights.
The weights are scaled so that the logits spread over a few units: a flat model would pass even if half its layers were missing.
"""
import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers

import common
import tiny_gguf

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
PROMPT = 72

ODD = dict(hidden_size=240, num_attention_heads=6, num_key_value_heads=2, head_dim=40, intermediate_size=152,
           num_hidden_layers=3, vocab_size=1001, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False,
           rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
# Attention wider than the model, one KV head for eight query heads, every bias, and RoPE scaling that begins early in the
# context.
WIDE = dict(hidden_size=112, num_attention_heads=8, num_key_value_heads=1, head_dim=24, intermediate_size=200,
            num_hidden_layers=3, vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=True,
            attention_bias=True, mlp_bias=True,
            rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 32})
# Biases of Q, K and V alone; 7 query heads for each KV head as in Qwen2.5-0.5B.
QWEN2 = dict(hidden_size=112, num_attention_heads=7, num_key_value_heads=1, intermediate_size=136, num_hidden_layers=3,
             vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=True,
             rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
# Head norms, and attention wider than the model.
QWEN3 = dict(hidden_size=72, num_attention_heads=6, num_key_value_heads=2, head_dim=32, intermediate_size=104,
             num_hidden_layers=3, vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=False,
             rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
# One layer without RoPE.
SMOLLM3 = dict(hidden_size=96, num_attention_heads=4, num_key_value_heads=2, intermediate_size=136, num_hidden_layers=5,
               vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=True,
               rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, pad_token_id=0)
# Soft caps of scores and logits, norms before and after each block, and windows shorter than a prompt on every other layer.
GEMMA2 = dict(hidden_size=72, num_attention_heads=4, num_key_value_heads=2, head_dim=24, intermediate_size=104,
              num_hidden_layers=3, vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-6, sliding_window=21,
              query_pre_attn_scalar=24, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
              rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, pad_token_id=0)
# Head norms; five sliding-window layers with their own RoPE base for each full one, whose RoPE is scaled.
GEMMA3 = dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, head_dim=32, intermediate_size=64,
              num_hidden_layers=7, vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-6, sliding_window=17,
              query_pre_attn_scalar=32,
              rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                               "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}, pad_token_id=0)
# Norms after attention and MLP, and over all heads of Q and of K.
OLMO2 = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=104, num_hidden_layers=3,
             vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=False,
             rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, pad_token_id=0)
# Four multipliers.
GRANITE = dict(hidden_size=72, num_attention_heads=3, num_key_value_heads=1, intermediate_size=104, num_hidden_layers=3,
               vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
               embedding_multiplier=12.0, attention_multiplier=0.125, residual_multiplier=0.5, logits_scaling=2.0,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, pad_token_id=0)
# A sliding window on every layer.
MISTRAL = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=24, intermediate_size=104,
               num_hidden_layers=3, vocab_size=333, max_position_embeddings=512, rms_norm_eps=1e-5, sliding_window=19,
               tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
# Q, K and V in one matrix, gate and up in another, RoPE on half of each head, a sliding window.
PHI3 = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=104, num_hidden_layers=3,
            vocab_size=333, max_position_embeddings=512, original_max_position_embeddings=512, rms_norm_eps=1e-5,
            sliding_window=23, tie_word_embeddings=False, pad_token_id=0,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5})
# Three convolutions of four taps and two attention layers with head norms; an MLP of two thirds of the given size.
LFM2 = dict(hidden_size=72, num_attention_heads=3, num_key_value_heads=1, intermediate_size=150, num_hidden_layers=5,
            vocab_size=333, max_position_embeddings=512, norm_eps=1e-5, tie_word_embeddings=True, conv_L_cache=4,
            block_multiple_of=8, layer_types=["conv", "conv", "full_attention", "conv", "full_attention"],
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, pad_token_id=0)
# YaRN with half of the pairs in its mixed range, and scaling that begins early in the context.
YARN = dict(hidden_size=40, num_attention_heads=3, num_key_value_heads=1, head_dim=16, intermediate_size=48, num_hidden_layers=2,
            vocab_size=131, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=True,
            rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 32,
                             "beta_fast": 4.0, "beta_slow": 0.5})
# Phi-4-mini: LongRoPE on three quarters of each head, a tied head, a window longer than the context. 72 tokens use the long
# list; 39 with 32 more use the short one.
PHI4 = dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, intermediate_size=56, num_hidden_layers=2, vocab_size=131,
            max_position_embeddings=512, original_max_position_embeddings=71, rms_norm_eps=1e-5, sliding_window=2048,
            tie_word_embeddings=True, pad_token_id=0,
            rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
                             "short_factor": [1.0, 1.02, 1.1, 1.3, 1.7, 2.0], "long_factor": [1.1, 1.6, 3.5, 9.0, 21.0, 37.5]})
SHORT = {"tiny-phi4-f16": 39}
# Dense Granite 4: a shared MLP alone with gate and up in one matrix, once with positions and once without.
GRANITE4 = dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, intermediate_size=56, shared_intermediate_size=56,
                num_hidden_layers=2, layer_types=["attention"] * 2, vocab_size=131, max_position_embeddings=512, rms_norm_eps=1e-5,
                num_local_experts=0, num_experts_per_tok=0, mamba_n_heads=6, mamba_d_head=16, tie_word_embeddings=True,
                embedding_multiplier=2.0, attention_multiplier=0.25, residual_multiplier=0.9, logits_scaling=0.5, pad_token_id=0,
                rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
# The text model of a Gemma 3 with vision, without the fields that its publisher leaves out: 8 query heads and 4 KV heads of
# 256.
GEMMA3_WHOLE = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, vocab_size=131, sliding_window=17,
                    max_position_embeddings=512,
                    layer_types=["sliding_attention", "full_attention"],
                    rope_parameters={"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                                     "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}})
VISION = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=28, patch_size=14)
# Mistral with windows on some layers.
MINISTRAL = dict(hidden_size=40, num_attention_heads=3, num_key_value_heads=1, head_dim=16, intermediate_size=48, num_hidden_layers=3,
                 vocab_size=131, max_position_embeddings=512, rms_norm_eps=1e-5, sliding_window=19, tie_word_embeddings=False,
                 layer_types=["full_attention", "sliding_attention", "sliding_attention"],
                 rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
# Seven experts, three for each token.
QWEN3_MOE = dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, head_dim=16, intermediate_size=56,
                 moe_intermediate_size=24, num_experts=7, num_experts_per_tok=3, norm_topk_prob=True, num_hidden_layers=3,
                 vocab_size=131, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=False,
                 rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
# MoE layers and dense layers; the experts' weights do not sum to 1.
QWEN3_SOME = {**QWEN3_MOE, "norm_topk_prob": False, "mlp_only_layers": [1], "num_experts": 5, "num_experts_per_tok": 2}
# Tensors that llama.cpp's converter reorders, with biases, and RoPE scaling that it stores as a tensor of factors.
SMALL_LLAMA = dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, head_dim=16, intermediate_size=48, num_hidden_layers=2,
                   vocab_size=131, max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=True,
                   mlp_bias=True, rope_parameters=WIDE["rope_parameters"])
SMALL_QWEN2 = dict(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, intermediate_size=56, num_hidden_layers=2,
                   vocab_size=131, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=True,
                   rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
# The fourth layer has no RoPE.
SMALL_SMOLLM3 = {**SMALL_QWEN2, "num_hidden_layers": 4, "pad_token_id": 0}
LLAMA = transformers.LlamaConfig


def gemma3_whole(**text):
    ids = {key: text.pop(key) for key in ("bos_token_id", "eos_token_id")}
    return transformers.Gemma3Config(text_config={**text, **ids, "attention_dropout": 0.0},
                                     vision_config={"model_type": "siglip_vision_model", **VISION}, mm_tokens_per_image=4,
                                     image_token_index=130, boi_token_index=129, eoi_token_index=128, **ids)


MODELS = {
    "tiny-odd-f16": (LLAMA, ODD, torch.float16, {}),
    "tiny-wide-bf16": (LLAMA, WIDE, torch.bfloat16, {}),
    "tiny-wide-f32": (LLAMA, WIDE, torch.float32, {"max_shard_size": "400KB"}),
    "tiny-qwen2-bf16": (transformers.Qwen2Config, QWEN2, torch.bfloat16, {}),
    "tiny-qwen3-f16": (transformers.Qwen3Config, QWEN3, torch.float16, {}),
    "tiny-smollm3-f16": (transformers.SmolLM3Config, SMOLLM3, torch.float16, {}),
    "tiny-gemma2-f16": (transformers.Gemma2Config, GEMMA2, torch.float16, {}),
    "tiny-gemma3-f16": (transformers.Gemma3TextConfig, GEMMA3, torch.float16, {}),
    "tiny-olmo2-f16": (transformers.Olmo2Config, OLMO2, torch.float16, {}),
    "tiny-granite-f16": (transformers.GraniteConfig, GRANITE, torch.float16, {}),
    "tiny-mistral-f16": (transformers.MistralConfig, MISTRAL, torch.float16, {}),
    "tiny-phi3-f16": (transformers.Phi3Config, PHI3, torch.float16, {}),
    "tiny-lfm2-f16": (transformers.Lfm2Config, LFM2, torch.float16, {}),
    "tiny-yarn-f16": (transformers.Qwen3Config, YARN, torch.float16, {}),
    "tiny-phi4-f16": (transformers.Phi3Config, PHI4, torch.float16, {}),
    "tiny-granite4-f16": (transformers.GraniteMoeHybridConfig, {**GRANITE4, "position_embedding_type": "rope"}, torch.float16, {}),
    "tiny-granite4-nope-f16": (transformers.GraniteMoeHybridConfig, {**GRANITE4, "position_embedding_type": "nope"}, torch.float16, {}),
    "tiny-ministral-f16": (transformers.MinistralConfig, MINISTRAL, torch.float16, {}),
    "tiny-gemma3-whole-f16": (gemma3_whole, GEMMA3_WHOLE, torch.float16, {}),
    "tiny-qwen3-moe-f16": (transformers.Qwen3MoeConfig, QWEN3_MOE, torch.float16, {}),
    "tiny-qwen3-some-f16": (transformers.Qwen3MoeConfig, QWEN3_SOME, torch.float16, {}),
    "tiny-llama-f16": (LLAMA, SMALL_LLAMA, torch.float16, {}),
    "tiny-qwen2-f16": (transformers.Qwen2Config, SMALL_QWEN2, torch.float16, {}),
    "tiny-smollm3-small-f16": (transformers.SmolLM3Config, SMALL_SMOLLM3, torch.float16, {}),
}
# Families that have a smaller model below, and mixtures of experts with dense layers.
NO_GGUF = ["tiny-odd-f16", "tiny-wide-bf16", "tiny-wide-f32", "tiny-qwen2-bf16", "tiny-smollm3-f16", "tiny-qwen3-some-f16"]


def draw(config, seed):
    """Weights whose products keep the variance; norms and biases near, but never at, 1 and 0."""
    rng = torch.Generator().manual_seed(seed)
    kind = transformers.AutoModelForImageTextToText if hasattr(config, "vision_config") else transformers.AutoModelForCausalLM
    model = kind.from_config(config).float().eval()
    config = config.get_text_config()
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=rng)
            if "norm" in name:
                # Gemma adds 1 itself.
                p.copy_((0 if "gemma" in config.model_type else 1) + 0.2 * noise)
            elif name.endswith("conv.weight"):
                p.copy_(noise * p.shape[2] ** -0.5 * 1.5)
            elif name.endswith("bias"):
                p.copy_(0.1 * noise)
            elif "embed_tokens" in name:
                p.copy_(noise * (p.shape[1] ** -0.5 * 1.5 if config.tie_word_embeddings else 1.0))
            else:
                p.copy_(noise * p.shape[-1] ** -0.5 * (1.5 if "lm_head" in name or "q_proj" in name else 1.0))
    return model


def leave_out(path):
    """Removes fields that the published files of Gemma 3 leave out, and writes the rest as they do."""
    config = json.load(open(path))
    text = config["text_config"]
    rope = text.pop("rope_parameters")["full_attention"]
    config["text_config"] = {key: text[key] for key in ("hidden_size", "intermediate_size", "model_type", "num_hidden_layers",
                                                        "sliding_window", "vocab_size", "layer_types",
                                                        "max_position_embeddings")}
    config["text_config"]["rope_scaling"] = {"factor": rope["factor"], "rope_type": rope["rope_type"]}
    json.dump(config, open(path, "w"), indent=2)


def main():
    for seed, (name, (kind, shape, dtype, options)) in enumerate(MODELS.items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        out = f"{GOLDEN}/{name}"
        shutil.rmtree(out, ignore_errors=True)
        config = kind(**shape, bos_token_id=1, eos_token_id=2, **({} if kind is gemma3_whole else {"attention_dropout": 0.0}))
        draw(config, seed).to(dtype).save_pretrained(out, **options)
        if kind is gemma3_whole:
            leave_out(f"{out}/config.json")
        model = common.load(out)
        if config.model_type in tiny_gguf.FAMILIES and name not in NO_GGUF:
            tiny_gguf.write(model, f"{out}.gguf")
        ids = [(i * i * 31 + i * 17 + 5 * seed + 3) % shape["vocab_size"] for i in range(PROMPT)]
        logits, record = common.run(model, ids)
        np.save(f"{out}/logits.npy", logits)
        if name in SHORT:
            short, of_short = common.run(model, ids[:SHORT[name]])
            np.save(f"{out}/short.npy", short)
            json.dump(of_short, open(f"{out}/short.json", "w"))
        effect, _ = common.half_cache_effect(model, ids, logits)
        json.dump({"torch": torch.__version__, "transformers": transformers.__version__,
                   "half_cache_max_delta": effect, **record}, open(f"{out}/reference.json", "w"))
        print(name, sorted(os.listdir(out)), "std", logits.std(), "max", np.abs(logits).max(), "f16 KV moves", effect,
              "gaps under 0.05:", sum(g < 0.05 for g in record["greedy_top2_gap"]), file=sys.stderr)


if __name__ == "__main__":
    main()
