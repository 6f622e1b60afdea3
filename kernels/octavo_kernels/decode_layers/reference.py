"""The oracle of decode_layers: the other ops' oracles, one after another."""

import torch
from torch import Tensor

from octavo_kernels.decode_layers import PackedDecoder, PackedProjection
from octavo_kernels.paged_decode.reference import paged_decode
from octavo_kernels.quantized_linear.reference import unpack
from octavo_kernels.rms_norm.reference import rms_norm
from octavo_kernels.rotary.reference import rotary
from octavo_kernels.silu_mul.reference import silu_mul
from octavo_kernels.write_kv.reference import write_kv


def decode_layers(
    decoder: PackedDecoder,
    residual: Tensor,
    positions: Tensor,
    slots: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    kv_cache: Tensor,
) -> Tensor:
    """See `octavo_kernels.decode_layers.cpu.compile_decode_layers`."""
    kv_heads, head_dim = kv_cache.shape[4:]
    q_heads = decoder.num_heads
    for layer, (k_cache, v_cache) in zip(decoder.layers, kv_cache, strict=True):
        hidden = rms_norm(residual, layer.input_norm.float(), decoder.eps)
        fused = _project(hidden, layer.qkv).view(-1, q_heads + 2 * kv_heads, head_dim)
        q, k, v = fused.split((q_heads, kv_heads, kv_heads), dim=1)
        rotary(q, k, positions, decoder.rope)
        write_kv(k.to(k_cache.dtype), v.to(v_cache.dtype), k_cache, v_cache, slots)
        attended = paged_decode(q, k_cache, v_cache, block_tables, seq_lens, head_dim**-0.5)
        residual = residual + _project(attended.flatten(1), layer.output)
        hidden = rms_norm(residual, layer.mlp_norm.float(), decoder.eps)
        residual = residual + _project(silu_mul(_project(hidden, layer.gate_up)), layer.down)
    return rms_norm(residual, decoder.norm.float(), decoder.eps)


def _project(x: Tensor, projection: PackedProjection) -> Tensor:
    return torch.nn.functional.linear(x, unpack(projection.weight), projection.bias)
