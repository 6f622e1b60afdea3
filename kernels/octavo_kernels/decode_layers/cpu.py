"""decode_layers for the CPU: threads share the tiles of each projection, and one of them does the little between."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from octavo_kernels.add_rms_norm.cpu import add_and_normalise
from octavo_kernels.compiled import as_array, compiled, narrowed, workers
from octavo_kernels.decode_layers import PackedDecoder, PackedProjection
from octavo_kernels.grouped_linear import TILE
from octavo_kernels.grouped_linear.cpu import project
from octavo_kernels.paged_decode.cpu import attend, plan
from octavo_kernels.rms_norm.cpu import normalise
from octavo_kernels.rotary.cpu import rotate
from octavo_kernels.silu_mul.cpu import activate

_Array = npt.NDArray[Any]

DecodeLayers = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


class _Projections(NamedTuple):
    """One kind of projection, of all layers."""

    addresses: _Array  # [layers] int64
    bits: _Array  # [layers] int64
    bias: _Array  # [layers, out] float32; [layers, 0] where there is none


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
    norms = [norm for layer in layers for norm in (layer.input_norm, layer.mlp_norm)]
    norm = torch.stack([*norms, decoder.norm]).float().numpy()
    qkv = _stacked([layer.qkv for layer in layers])
    output = _stacked([layer.output for layer in layers])
    gate_up = _stacked([layer.gate_up for layer in layers])
    down = _stacked([layer.down for layer in layers])
    inner = layers[0].down.weight.in_features
    rope = decoder.rope.numpy()

    def run(
        residual: Tensor, positions: Tensor, slots: Tensor, block_tables: Tensor, seq_lens: Tensor, kv_cache: Tensor
    ) -> Tensor:
        hidden = torch.empty_like(residual)
        attention = plan(block_tables, seq_lens, kv_cache[0, 0], decoder.num_heads)
        _run(
            # The projections name their weights' memory by address; decoder, which this function holds, owns it.
            norm, qkv, output, gate_up, down, inner, rope, decoder.eps, residual.numpy(),
            as_array(positions), as_array(slots), as_array(kv_cache), hidden.numpy(), workers(),
            attention.tables, attention.lengths, attention.scores, attention.attended.numpy(),
            attention.parts, attention.workers,
        )  # fmt: skip
        return hidden

    return run


def _stacked(projections: list[PackedProjection]) -> _Projections:
    weights = [projection.weight for projection in projections]
    biases = [projection.bias for projection in projections if projection.bias is not None]
    return _Projections(
        np.array([weight.data.data_ptr() for weight in weights]),
        np.array([weight.bits for weight in weights]),
        torch.stack(biases).float().numpy() if biases else np.empty((len(weights), 0), np.float32),
    )


@compiled()
def _run(
    norm: _Array,
    qkv: _Projections,
    output: _Projections,
    gate_up: _Projections,
    down: _Projections,
    inner: int,
    rope: _Array,
    eps: float,
    residual: _Array,
    positions: _Array,
    slots: _Array,
    kv_cache: _Array,
    hidden: _Array,
    workers: int,
    tables: _Array,
    lengths: _Array,
    scores: _Array,
    attended: _Array,
    parts: int,
    attention_workers: int,
) -> None:
    """The arguments behind `workers` are those of a DecodePlan."""
    rows, width = residual.shape
    num_heads, kv_heads, head_dim = attended.shape[1], kv_cache.shape[4], kv_cache.shape[5]
    fused = np.empty((rows, -(-(num_heads + 2 * kv_heads) * head_dim // TILE) * TILE), np.float32)  # in whole tiles
    q = np.empty((rows, num_heads, head_dim), np.float32)
    projected = np.empty((rows, width), np.float32)
    gates = np.empty((rows, 2 * inner), np.float32)
    activated = np.empty((rows, inner), np.float32)
    scale = np.float32(1 / np.sqrt(head_dim))
    normalise(residual, norm[0], eps, hidden)
    for layer in range(len(qkv.bits)):
        k_cache, v_cache = kv_cache[layer, 0], kv_cache[layer, 1]
        _project(hidden, qkv, layer, fused, workers)
        rotate(fused.reshape(-1), fused.shape[1], head_dim, num_heads + kv_heads, positions, rope)
        _place(fused, scale, slots, q, k_cache, v_cache)
        attend(q, k_cache, v_cache, tables, lengths, scores, attended, parts, attention_workers)
        _project(attended.reshape(rows, num_heads * head_dim), output, layer, projected, workers)
        add_and_normalise(projected, residual, norm[2 * layer + 1], eps, hidden, residual)
        _project(hidden, gate_up, layer, gates, workers)
        activate(gates, activated, 0, rows)
        _project(activated, down, layer, projected, workers)
        add_and_normalise(projected, residual, norm[2 * layer + 2], eps, hidden, residual)


@compiled()
def _project(x: _Array, projections: _Projections, layer: int, out: _Array, workers: int) -> None:
    project(projections.bits[layer], projections.addresses[layer], x, out, workers)
    bias = projections.bias[layer]
    for row in range(x.shape[0]):
        for column in range(len(bias)):
            out[row, column] += bias[column]


@compiled()
def _place(fused: _Array, scale: np.float32, slots: _Array, q: _Array, k_cache: _Array, v_cache: _Array) -> None:
    """From the rows of the QKV projection the queries go to q, scaled, the keys and values to their slots."""
    num_heads, head_dim = q.shape[1], q.shape[2]
    block_size, kv_heads = k_cache.shape[1], k_cache.shape[2]
    for row in range(len(slots)):
        block, slot = slots[row] // block_size, slots[row] % block_size
        for head in range(num_heads):
            for element in range(head_dim):
                q[row, head, element] = fused[row, head * head_dim + element] * scale
        for head in range(kv_heads):
            k_start = (num_heads + head) * head_dim
            v_start = k_start + kv_heads * head_dim
            for element in range(head_dim):
                k_cache[block, slot, head, element] = narrowed(fused[row, k_start + element], k_cache)
                v_cache[block, slot, head, element] = narrowed(fused[row, v_start + element], v_cache)
