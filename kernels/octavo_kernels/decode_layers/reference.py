"""The oracle of decode_layers: the pre-norm block of a Llama, of the other ops' oracles."""

import torch
from torch import Tensor

from octavo_kernels.decode_layers import PackedDecoder, PackedLayer, PackedProjection
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
    heads = decoder.num_heads, kv_heads, kv_heads

    def norm(hidden: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(hidden, weight.float(), decoder.eps)

    def attention(layer: PackedLayer, hidden: Tensor, k_cache: Tensor, v_cache: Tensor) -> Tensor:
        q, k, v = _project(hidden, layer.qkv).view(-1, sum(heads), head_dim).split(heads, dim=1)
        rotary(q, k, positions, decoder.rope)
        write_kv(k.to(k_cache.dtype), v.to(v_cache.dtype), k_cache, v_cache, slots)
        attended = paged_decode(q, k_cache, v_cache, block_tables, seq_lens, head_dim**-0.5)
        return _project(attended.flatten(1), layer.output)

    def mlp(layer: PackedLayer, hidden: Tensor) -> Tensor:
        return _project(silu_mul(_project(hidden, layer.gate_up)), layer.down)

    for layer, layer_cache in zip(decoder.layers, kv_cache, strict=True):
        residual = residual + attention(layer, norm(residual, layer.attention_norm), *layer_cache)
        residual = residual + mlp(layer, norm(residual, layer.mlp_norm))
    return norm(residual, decoder.norm)


def _project(x: Tensor, projection: PackedProjection) -> Tensor:
    return torch.nn.functional.linear(x, unpack(projection.weight), projection.bias)
