"""write_kv for the CPU."""

from typing import Any

import numpy.typing as npt
from torch import Tensor

from octavo_kernels.compiled import as_array, compiled

_Array = npt.NDArray[Any]


def write_kv(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slots: Tensor) -> None:
    """See `octavo_kernels.write_kv`."""
    _write(as_array(k), as_array(v), as_array(k_cache), as_array(v_cache), as_array(slots))


@compiled()
def _write(k: _Array, v: _Array, k_cache: _Array, v_cache: _Array, slots: _Array) -> None:
    block_size = k_cache.shape[1]
    for token in range(len(slots)):
        if slots[token] >= 0:
            block, slot = slots[token] // block_size, slots[token] % block_size
            for head in range(k.shape[1]):  # numba compiles an assignment of whole slices for seconds
                for element in range(k.shape[2]):
                    k_cache[block, slot, head, element] = k[token, head, element]
                    v_cache[block, slot, head, element] = v[token, head, element]
