"""rotary for the CPU."""

from typing import Any

import numpy.typing as npt
from torch import Tensor

from octavo_kernels.compiled import as_array, compiled, narrowed, widened

_Array = npt.NDArray[Any]


def rotary(q: Tensor, k: Tensor, positions: Tensor, cos_sin: Tensor) -> None:
    """See `octavo_kernels.rotary`."""
    if not len(positions):
        return
    angles = as_array(positions), as_array(cos_sin)
    if k.stride() == q.stride() and k.data_ptr() == q.data_ptr() + q.shape[1] * q.stride(1) * q.itemsize:
        # In the fused output of the QKV projection the heads of k lie right behind those of q.
        rotate(_flat(q, q.shape[1] + k.shape[1]), q.stride(0), q.stride(1), q.shape[1] + k.shape[1], *angles)
    else:
        for heads in (q, k):
            rotate(_flat(heads, heads.shape[1]), heads.stride(0), heads.stride(1), heads.shape[1], *angles)


def _flat(heads: Tensor, count: int) -> _Array:
    """The memory from the first of `count` heads to the last, in one dimension: there, but not in a view into a fused
    tensor, the compiler knows that neighbours lie side by side, and takes many at once."""
    tokens, _, head_dim = heads.shape
    size = (tokens - 1) * heads.stride(0) + (count - 1) * heads.stride(1) + head_dim
    return as_array(heads.as_strided((size,), (1,)))


@compiled()
def rotate(memory: _Array, token_stride: int, head_stride: int, heads: int, positions: _Array, cos_sin: _Array) -> None:
    """memory: one dimension; its heads begin at every token_stride, and of a token at every head_stride."""
    half = cos_sin.shape[1] // 2
    for token in range(len(positions)):
        cos, sin = cos_sin[positions[token], :half], cos_sin[positions[token], half:]
        for head in range(heads):
            start = token * token_stride + head * head_stride
            firsts, seconds = memory[start : start + half], memory[start + half : start + 2 * half]
            for index in range(half):
                first, second = widened(firsts[index]), widened(seconds[index])
                firsts[index] = narrowed(first * cos[index] - second * sin[index], memory)
                seconds[index] = narrowed(second * cos[index] + first * sin[index], memory)
