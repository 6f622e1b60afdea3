"""Random models of all families as GGUF, as llama.cpp's convert_hf_to_gguf writes them: names by the gguf package, and
what the converter does to rows, norms and experts. A key that the converter leaves out is left out here."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from random_gguf import permuted
from transformers import PreTrainedModel

_ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "gemma3_text": "gemma3", "cohere": "command-r",
    "ernie4_5_moe": "ernie4_5-moe", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "granitemoeshared": "granitemoe",
    "glm4_moe": "glm4moe", "hunyuan_v1_moe": "hunyuan-moe", "minimax_m2": "minimax-m2", "gpt_oss": "gpt-oss",
    "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "glm4_moe_lite": "deepseek2", "youtu": "deepseek2",
    "gpt_neox": "gptneox", "glm": "chatglm",
}  # fmt: skip
_PERMUTED = ("llama", "granite", "granitemoe", "smollm3", "internlm2")
_LAYER_NORMED = "command-r", "cohere2", "starcoder2", "stablelm", "falcon", "gptneox", "gpt2", "nemotron", "bloom"
F32 = gguf.GGMLQuantizationType.F32


def write_converted(
    path: Path,
    model: PreTrainedModel,
    kind: gguf.GGMLQuantizationType = F32,
    architecture: str | None = None,
    splits_expansion: bool = True,
) -> None:
    """Writes the model. kind: of all matrices but routers; the model's own weights become what it holds. architecture:
    another than the model's own, which computes the same. splits_expansion: of latent attention, as converters do since
    they name sizes of their own for it."""
    config = model.config
    architecture = architecture or _ARCHITECTURES.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    _write_shape(writer, config, architecture, splits_expansion)
    _write_rope(writer, config, architecture)
    _write_experts(writer, config, architecture)
    _write_multipliers(writer, config, architecture)
    writer.add_eos_token_id(config.eos_token_id)
    _round(model, kind)
    for name, tensor in _with_heads_together(model.state_dict()).items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        for own, values in _converted(name, tensor.detach().float().numpy(), config, architecture, splits_expansion):
            whole = np.ascontiguousarray(values)
            kept = kind if values.ndim > 1 and own.endswith(".weight") and "ffn_gate_inp" not in own else F32
            writer.add_tensor(own, gguf.quantize(whole, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _with_heads_together(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Norms that a model holds for each head are one tensor in a file."""
    of_heads: dict[str, list[torch.Tensor]] = {}
    for name, tensor in tensors.items():
        stem, numbered, _ = name.partition(".norms.")
        of_heads.setdefault(f"{stem}.weight" if numbered else name, []).append(tensor)
    return {name: found[0] if len(found) == 1 else torch.stack(found) for name, found in of_heads.items()}


def _round(model: PreTrainedModel, kind: gguf.GGMLQuantizationType) -> None:
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim > 1 and not any(part in name for part in ("bias", "gate.w", "router")):
                # Of stored rows: gpt-oss holds its experts' columns there.
                turned = tensor.ndim == 3 and model.config.model_type == "gpt_oss"
                rows = tensor.transpose(1, 2).contiguous() if turned else tensor
                rounded = torch.from_numpy(gguf.dequantize(gguf.quantize(rows.numpy(), kind), kind))
                tensor.copy_(rounded.transpose(1, 2) if turned else rounded)


def _write_shape(writer: gguf.GGUFWriter, config: Any, architecture: str, splits_expansion: bool) -> None:
    writer.add_context_length(config.seq_length if architecture == "bloom" else config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 4 * config.hidden_size))
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if architecture == "falcon":
        grouped = config.num_kv_heads if config.new_decoder_architecture else config.num_attention_heads
        writer.add_head_count_kv(1 if config.multi_query and not config.new_decoder_architecture else grouped)
    elif architecture == "deepseek2":
        writer.add_head_count_kv(1 if splits_expansion else config.num_attention_heads)
    else:
        writer.add_head_count_kv(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    if architecture in ("deepseek2", "minicpm3"):
        _write_latents(writer, config, architecture, splits_expansion)
    elif getattr(config, "head_dim", None) and architecture not in ("command-r", "chatglm"):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if architecture in _LAYER_NORMED:
        names = "norm_epsilon", "layer_norm_epsilon", "layer_norm_eps", "norm_eps"
        writer.add_layer_norm_eps(next(getattr(config, name) for name in names if hasattr(config, name)))
    else:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if getattr(config, "sliding_window", None) and architecture not in ("qwen2moe", "qwen3moe", "minimax-m2"):
        writer.add_sliding_window(config.sliding_window)


def _write_latents(writer: gguf.GGUFWriter, config: Any, architecture: str, splits_expansion: bool) -> None:
    head_dim = config.qk_nope_head_dim + config.qk_rope_head_dim
    if config.q_lora_rank is not None:
        writer.add_q_lora_rank(config.q_lora_rank)
    writer.add_kv_lora_rank(config.kv_lora_rank)
    if architecture == "minicpm3":
        writer.add_key_length(head_dim)
        return
    writer.add_vocab_size(config.vocab_size)
    if not splits_expansion:
        writer.add_key_length(head_dim)
        writer.add_value_length(config.v_head_dim)
        return
    writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(head_dim)
    writer.add_value_length_mla(config.v_head_dim)


def _write_rope(writer: gguf.GGUFWriter, config: Any, architecture: str) -> None:
    rope = getattr(config, "rope_parameters", None)
    if rope is None:
        return
    local = rope.get("sliding_attention", rope)
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    if architecture == "gemma3" and local["rope_theta"] != 10000.0:
        writer.add_float32("gemma3.rope.freq_base_swa", local["rope_theta"])
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    turned = getattr(config, "qk_rope_head_dim", None) or int(head_dim * rope.get("partial_rotary_factor", 1.0))
    writer.add_rope_dimension_count(turned)
    kind = rope["rope_type"]
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        if rope.get("mscale_all_dim") is not None:
            writer.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    if kind == "longrope":
        original = getattr(config, "original_max_position_embeddings", rope["original_max_position_embeddings"])
        scale = config.max_position_embeddings / original
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(scale) / np.log(original))))
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))


def _write_experts(writer: gguf.GGUFWriter, config: Any, architecture: str) -> None:
    def first(*names: str) -> Any:
        return next((getattr(config, name) for name in names if getattr(config, name, None) is not None), None)

    count = first("num_local_experts", "n_routed_experts", "moe_num_experts", "num_experts")
    if not count:
        if architecture == "deepseek2":
            writer.add_expert_feed_forward_length(config.intermediate_size)
            writer.add_expert_shared_count(0)
            writer.add_leading_dense_block_count(config.num_hidden_layers)
        return
    used = first("moe_k", "moe_topk", "num_experts_per_tok")
    writer.add_expert_count(count)
    writer.add_expert_used_count(used[0] if isinstance(used, list) else used)
    if getattr(config, "moe_intermediate_size", None):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if architecture == "gpt-oss":
        writer.add_expert_feed_forward_length(config.intermediate_size)
    if architecture == "qwen2moe":
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    if architecture == "granitemoe" and getattr(config, "shared_intermediate_size", 0):
        writer.add_expert_shared_feed_forward_length(config.shared_intermediate_size)
    if architecture == "deepseek2":
        writer.add_expert_shared_count(config.n_shared_experts)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
        writer.add_leading_dense_block_count(config.first_k_dense_replace)
        if config.n_group:
            writer.add_expert_group_count(config.n_group)
            writer.add_expert_group_used_count(config.topk_group)
        if config.norm_topk_prob:
            writer.add_expert_weights_norm(True)
        if config.model_type == "deepseek_v3":
            writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if architecture == "glm4moe":
        writer.add_expert_shared_count(config.n_shared_experts)
        writer.add_expert_weights_scale(config.routed_scaling_factor)
        writer.add_expert_weights_norm(config.norm_topk_prob)
        writer.add_leading_dense_block_count(config.first_k_dense_replace)
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
        writer.add_expert_group_count(config.n_group)
        writer.add_expert_group_used_count(config.topk_group)
    if architecture == "minimax-m2":
        writer.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if architecture == "ernie4_5-moe":
        writer.add_expert_shared_count(config.moe_num_shared_experts)
        writer.add_leading_dense_block_count(config.moe_layer_start_index)
        writer.add_interleave_moe_layer_step(config.moe_layer_interval)


def _write_multipliers(writer: gguf.GGUFWriter, config: Any, architecture: str) -> None:
    if architecture.startswith("granite"):
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if architecture in ("command-r", "cohere2"):
        writer.add_logit_scale(config.logit_scale)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if architecture in ("stablelm", "gptneox"):
        writer.add_parallel_residual(config.use_parallel_residual)


def _converted(
    name: str, values: np.ndarray, config: Any, architecture: str, splits_expansion: bool
) -> list[tuple[str, np.ndarray]]:
    """Tensors of the file, of one of the model."""
    layer = f"blk.{name.split('.')[2]}." if name.startswith("model.layers.") else ""
    last = name.rsplit(".", 2)[-2:]
    if "experts." in name and "shared" not in name:
        kind = ".bias" if name.endswith("_bias") else ".weight"
        if architecture == "gpt-oss" and kind == ".weight":
            values = values.swapaxes(1, 2)
        if "down_proj" in name:
            return [(f"{layer}ffn_down_exps{kind}", values)]
        gate, up = (values[:, ::2], values[:, 1::2]) if architecture == "gpt-oss" else np.split(values, 2, axis=1)
        return [(f"{layer}ffn_gate_exps{kind}", gate), (f"{layer}ffn_up_exps{kind}", up)]
    if "e_score_correction_bias" in name:
        return [(f"{layer}exp_probs_b.bias", values.ravel())]
    if name.endswith(("mlp.gate.weight", "gate.wg.weight", "router.layer.weight", "router.weight", "router.bias")):
        return [(f"{layer}ffn_gate_inp.{last[-1]}", values)]
    if "shared" in name and "input_linear" in name:
        gate, up = np.split(values, 2)
        return [(f"{layer}ffn_gate_shexp.weight", gate), (f"{layer}ffn_up_shexp.weight", up)]
    if "shared_mlp.output_linear" in name:
        return [(f"{layer}ffn_down_shexp.weight", values)]
    if "shared_expert_gate" in name:
        return [(f"{layer}ffn_gate_inp_shexp.weight", values.ravel())]
    if name.endswith("kv_b_proj.weight") and architecture == "deepseek2" and splits_expansion:
        both = values.reshape(config.num_attention_heads, -1, config.kv_lora_rank)
        of_keys, of_values = np.split(both, [config.qk_nope_head_dim], axis=1)
        return [(f"{layer}attn_k_b.weight", of_keys.swapaxes(1, 2)), (f"{layer}attn_v_b.weight", of_values)]
    if "query_key_value" in name:
        heads = config.num_attention_heads
        head_dim = config.hidden_size // heads
        if architecture in ("gptneox", "bloom") or not (config.new_decoder_architecture or config.multi_query):
            kv_heads = heads
        else:
            kv_heads = config.num_kv_heads if config.new_decoder_architecture else 1
        groups = values.reshape(kv_heads, heads // kv_heads + 2, head_dim, -1)
        parts = groups[:, :-2], groups[:, -2], groups[:, -1]
        flat = [part.reshape(-1, groups.shape[-1]) for part in parts]
        values = np.concatenate(flat).reshape(values.shape)
    if architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        values = values.T
    if name.endswith("self_attn.sinks"):
        return [(f"{layer}attn_sinks.weight", values)]
    if architecture in _PERMUTED:
        if "q_proj" in name:
            values = permuted(values, config.num_attention_heads)
        if "k_proj" in name:
            values = permuted(values, config.num_key_value_heads)
    if architecture == "bloom":
        name = name.removeprefix("transformer.")
    if architecture in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
        values = values + 1
    [key] = [key for key, found in gguf.MODEL_ARCH_NAMES.items() if found == architecture]
    own = gguf.get_tensor_name_map(key, config.num_hidden_layers).get_name(name, (".weight", ".bias"))
    assert own is not None, name
    return [(own, values)]
