"""decode_layers for the CPU: threads share the tiles of each projection, and one of them does the little between."""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from octavo_kernels.decode_layers import PackedDecoder, PackedProjection
from octavo_kernels.native import TYPES, loop, workers
from octavo_kernels.paged_decode.cpu import plan

DecodeLayers = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class _Projections(ctypes.Structure):
    """cpu.hpp's structure of the same name."""

    _fields_ = (
        ("weights", ctypes.c_void_p),
        ("bits", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("out", ctypes.c_int64),
    )


class _Layers(ctypes.Structure):
    """cpu.hpp's structure of the same name."""

    _fields_ = (
        *((name, _Projections) for name in ("qkv", "output", "gate_up", "down")),
        *((name, ctypes.c_void_p) for name in ("norms", "rope")),
        *((name, ctypes.c_int64) for name in ("layers", "hidden", "inner")),
        ("eps", ctypes.c_double),
    )


_decode_layers = loop("decode_layers", "ippppppipi")


def compile_decode_layers(decoder: PackedDecoder) -> DecodeLayers:
    """The function that runs a decoder's layers:

    Args:
        residual: [sequences, hidden] float32, the embedded tokens; overwritten.
        positions: [sequences] int64, of the tokens.
        slots: [sequences] int64, where their keys and values go in the cache.
        block_tables: [sequences, blocks] int32.
        seq_lens: [sequences] int32, the new token included.
        kv_cache: [layer, 2, block, slot, kv_head, head_dim], which is written to.

    Returns:
        Hidden states [sequences, hidden] float32 behind the last norm.
    """
    layers = decoder.layers
    pairs = ((layer.attention_norm, layer.mlp_norm) for layer in layers)
    norms = torch.stack([*(norm for pair in pairs for norm in pair), decoder.norm]).float()
    named, arrays = zip(
        *(
            _stacked([getattr(layer, name) for layer in layers])
            for name in ("qkv", "output", "gate_up", "down")
        ),
        strict=True,
    )  # fmt: skip
    owners = (decoder, norms, arrays)  # of the memory that `loops` names by address
    loops = _Layers(
        *named, norms.data_ptr(), decoder.rope.data_ptr(), len(layers), norms.shape[1],
        layers[0].down.weight.in_features, decoder.eps,
    )  # fmt: skip

    def run(
        residual: Tensor, positions: Tensor, slots: Tensor, block_tables: Tensor, seq_lens: Tensor, kv_cache: Tensor
    ) -> Tensor:
        hidden = torch.empty_like(residual)
        step = plan(block_tables, seq_lens, kv_cache[0, 0], owners[0].num_heads)
        _decode_layers(
            TYPES[kv_cache.dtype], ctypes.byref(loops), ctypes.byref(step.attention), residual.data_ptr(),
            positions.data_ptr(), slots.data_ptr(), kv_cache.data_ptr(), kv_cache.stride(1), hidden.data_ptr(),
            workers(),
        )  # fmt: skip
        return hidden

    return run


def _stacked(projections: list[PackedProjection]) -> tuple[_Projections, list[Tensor]]:
    """One kind of projection of all layers, and the tensors whose addresses it holds."""
    weights = [projection.weight for projection in projections]
    biases = [projection.bias for projection in projections if projection.bias is not None]
    arrays = [
        torch.tensor([weight.data.data_ptr() for weight in weights]),
        torch.tensor([weight.bits for weight in weights]),
        *([torch.stack(biases).float()] if biases else []),
    ]
    addresses = [array.data_ptr() for array in arrays] + [None] * (not biases)
    return _Projections(*addresses, weights[0].out_features), arrays
