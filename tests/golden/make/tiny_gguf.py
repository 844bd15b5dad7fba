"""Writes a tiny model as a GGUF file with gguf-py, as llama.cpp's converter does for its family: float16 matrices, float32 vectors."""
import math

import gguf
import numpy as np

# By transformers' `model_type`: GGUF's name for the architecture, and what its converter adds to the gains of norms.
FAMILIES = {"llama": ("llama", 0), "smollm3": ("smollm3", 0), "qwen2": ("qwen2", 0), "qwen3": ("qwen3", 0), "gemma2": ("gemma2", 1), "gemma3_text": ("gemma3", 1), "olmo2": ("olmo2", 0),
            "granite": ("granite", 0), "granitemoehybrid": ("granite", 0), "phi3": ("phi3", 0),
            "lfm2": ("lfm2", 0), "qwen3_moe": ("qwen3moe", 0)}
# Families whose Q and K rows the converter interleaves.
INTERLEAVED = ["llama", "smollm3", "granite", "granitemoehybrid"]


def llama3_factors(rope, head_dim):
    """The divisor of each pair's frequency."""
    low, high, original = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    for pair in range(head_dim // 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (2 * pair / head_dim)
        smooth = min(max((original / wavelength - low) / (high - low), 0), 1)
        yield 1 / ((1 - smooth) / rope["factor"] + smooth)


def tensors(model):
    """The model's tensors, under the names that most models use."""
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if ".shared_mlp." in name:
            layer = name.split("shared_mlp")[0]
            kinds = ["gate", "up"] if "input_linear" in name else ["down"]
            for kind, part in zip(kinds, np.split(values, len(kinds))):
                yield f"{layer}mlp.{kind}_proj.weight", part
        elif ".mlp.experts." in name:
            layer = name.split("mlp.experts")[0]
            kinds = ["gate", "up"] if "gate_up_proj" in name else ["down"]
            for kind, part in zip(kinds, np.split(values, len(kinds), axis=1)):
                yield f"{layer}mlp.experts.{kind}_proj.weight", part
        else:
            yield name, values


def write(model, path):
    config = model.config
    arch, offset = FAMILIES[config.model_type]
    writer = gguf.GGUFWriter(path, arch)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    inner = model.model.layers[0].feed_forward.w1.out_features if config.model_type == "lfm2" else config.intermediate_size
    writer.add_feed_forward_length(inner)
    writer.add_head_count(config.num_attention_heads)
    if config.model_type == "lfm2":
        kinds = {"conv": 0, "full_attention": config.num_key_value_heads}
        writer.add_head_count_kv([kinds[kind] for kind in config.layer_types])
        writer.add_shortconv_l_cache(config.conv_L_cache)
    else:
        writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(getattr(config, "rms_norm_eps", None) or config.norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", np.array(list(llama3_factors(rope, head_dim)), np.float32))
    if rope["rope_type"] == "longrope":
        original = rope["original_max_position_embeddings"]
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(config.max_position_embeddings / original) / math.log(original)))
        for ours, factors in (("long", rope["long_factor"]), ("short", rope["short_factor"])):
            writer.add_tensor(f"rope_factors_{ours}.weight", np.array(factors, np.float32))
    if "gemma" in config.model_type or config.model_type == "phi3":
        writer.add_sliding_window(config.sliding_window)
    if config.model_type in ["llama", "smollm3"]:
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(head_dim)
    if rope.get("partial_rotary_factor"):
        writer.add_rope_dimension_count(int(head_dim * rope["partial_rotary_factor"]))
    if config.model_type == "qwen3_moe":
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if config.model_type == "granitemoehybrid":
        writer.add_rope_scaling_finetuned(config.position_embedding_type == "rope")
    if "granite" in config.model_type:
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)

    names = gguf.get_tensor_name_map(next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch), config.num_hidden_layers)
    for name, values in tensors(model):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if name.endswith("conv.conv.weight"):
            values = values.squeeze(1)
        if name.endswith("norm.weight"):
            values = values + np.float32(offset)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if config.model_type in INTERLEAVED and heads:
            halves = values.reshape(heads, 2, values.shape[0] // heads // 2, -1)
            values = halves.swapaxes(1, 2).reshape(values.shape)
        ours = names.get_name(name, try_suffixes=(".weight", ".bias"))
        single = values.ndim == 1 or "conv.conv" in name or name.endswith("mlp.gate.weight")
        writer.add_tensor(ours, values.astype(np.float32 if single else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
