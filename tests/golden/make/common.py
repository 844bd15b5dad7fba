"""What the reference scripts share: the GGUF as a transformers model, and one way to run a prompt through a model.

Every reference is float32 with eager attention, on the CPU, in Hugging Face transformers: none of the engine's code runs here.
"""
import numpy as np
import torch
import transformers

STEPS = 32


def gguf_model(path):
    """The Llama model of a GGUF file in float32, dequantised by gguf-py."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)
    tensors = {t.name: t for t in reader.tensors}

    def field(key):
        return reader.fields[key].contents()

    layers, heads, kv_heads = (field(f"llama.{k}") for k in ("block_count", "attention.head_count", "attention.head_count_kv"))
    hidden, theta = field("llama.embedding_length"), float(field("llama.rope.freq_base"))
    config = transformers.LlamaConfig(
        hidden_size=hidden, intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=hidden // heads,
        vocab_size=len(field("tokenizer.ggml.tokens")), max_position_embeddings=field("llama.context_length"),
        rope_theta=theta, rope_parameters={"rope_type": "default", "rope_theta": theta},
        rms_norm_eps=float(field("llama.attention.layer_norm_rms_epsilon")),
        tie_word_embeddings="output.weight" not in tensors, bos_token_id=field("tokenizer.ggml.bos_token_id"),
        eos_token_id=field("tokenizer.ggml.eos_token_id"), attn_implementation="eager")

    def weight(name):
        t = tensors[name]
        values = dequantize(t.data, t.tensor_type).astype(np.float32).copy()
        return torch.from_numpy(values).reshape([int(n) for n in reversed(t.shape)])

    def halves(w, n_heads):
        """GGUF interleaves the rows that RoPE rotates together; Hugging Face stores them half a head apart."""
        rows, cols = w.shape
        return w.reshape(n_heads, rows // n_heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols).contiguous()

    state = {"model.embed_tokens.weight": weight("token_embd.weight"), "model.norm.weight": weight("output_norm.weight")}
    for i in range(layers):
        g, h = f"blk.{i}.", f"model.layers.{i}."
        state |= {
            h + "self_attn.q_proj.weight": halves(weight(g + "attn_q.weight"), heads),
            h + "self_attn.k_proj.weight": halves(weight(g + "attn_k.weight"), kv_heads),
            h + "self_attn.v_proj.weight": weight(g + "attn_v.weight"),
            h + "self_attn.o_proj.weight": weight(g + "attn_output.weight"),
            h + "mlp.gate_proj.weight": weight(g + "ffn_gate.weight"),
            h + "mlp.up_proj.weight": weight(g + "ffn_up.weight"),
            h + "mlp.down_proj.weight": weight(g + "ffn_down.weight"),
            h + "input_layernorm.weight": weight(g + "attn_norm.weight"),
            h + "post_attention_layernorm.weight": weight(g + "ffn_norm.weight")}
    model = transformers.LlamaForCausalLM(config).float().eval()
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"lm_head.weight"}, missing
    model.tie_weights()
    return model


def load(directory):
    """Loads a saved directory, computing in float32 whatever type its weights have."""
    sees = hasattr(transformers.AutoConfig.from_pretrained(directory), "vision_config")
    kind = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    return kind.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager").eval()


def half_cache(config):
    """A KV cache in f16, like the engine's. The tolerances are based on the difference that it makes."""
    class Half(transformers.DynamicCache):
        def update(self, key_states, value_states, *args, **kwargs):
            return super().update(key_states.half().float(), value_states.half().float(), *args, **kwargs)
    return Half(config=config)


@torch.no_grad()
def run(model, ids, cache=None):
    """`(logits [T, vocab] of the prompt, record)`: the tests read the record."""
    def gap(logits):
        top = torch.topk(logits, 2).values
        return round(float(top[..., 0] - top[..., 1]), 4)

    out = model(torch.tensor([ids]), past_key_values=cache or transformers.DynamicCache(config=model.config), use_cache=True)
    prompt, last = out.logits[0], out.logits[0, -1]
    greedy, gaps = [], []
    for _ in range(STEPS):
        gaps.append(gap(last))
        greedy.append(int(last.argmax()))
        out = model(torch.tensor([[greedy[-1]]]), past_key_values=out.past_key_values, use_cache=True)
        last = out.logits[0, -1]
    return prompt.numpy(), {
        "ids": list(ids), "greedy32": greedy, "greedy_top2_gap": gaps,
        "argmax_every_position": prompt.argmax(-1).tolist(), "top2_gap_every_position": [gap(row) for row in prompt]}


def half_cache_effect(model, ids, exact):
    """max |Δ logit| over every position when only the KV cache is rounded to f16."""
    with torch.no_grad():
        rounded = model(torch.tensor([ids]), past_key_values=half_cache(model.config), use_cache=True).logits[0].numpy()
    return float(np.abs(rounded - exact).max()), float(np.abs(rounded[-1] - exact[-1]).max())
