"""The output head: hidden states to the scores of all words."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from octavo_kernels.wide_linear import wide_linear
from octavo_runtime.layers.linear import (
    FEW_ROWS,
    Linear,
    StoredWeight,
    build_linear,
    in_groups,
    pack_linear,
    packs,
    prepacks,
)

# Up to this many rows a tied head of 16 bits is summed in float32.
FEW_WIDE_ROWS = 4


class Head(Protocol):
    """Scores [rows, vocab] of hidden states [rows, hidden]."""

    @property
    def num_bytes(self) -> int:
        """Bytes of memory that the weights take."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


class LMHead:
    """The projection of hidden states to the words' scores on a CPU in 16 bits, and of up to `few` rows in float32,
    where that takes no longer: it keeps words apart whose scores round to the same 16-bit number."""

    def __init__(
        self,
        many_rows: Linear,
        dtype: torch.dtype,
        few_rows: Callable[[Tensor], Tensor] | None = None,
        few: int = 0,
        few_bytes: int = 0,
    ) -> None:
        self._many_rows = many_rows
        self._dtype = dtype
        self._few_rows = few_rows
        self._few = few
        self.num_bytes = many_rows.num_bytes + few_bytes

    def __call__(self, x: Tensor) -> Tensor:
        if self._few_rows is None or x.shape[0] > self._few:
            return self._many_rows(x.to(self._dtype))
        return self._few_rows(x.float())


def build_lm_head(
    stored: StoredWeight,
    embedding: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
    bias: Tensor | None = None,
) -> Head:
    """The projection of a stored weight [vocab, hidden] and its bias [vocab], computed in `dtype` on `device`.
    embedding: the same weight where it lies already, if it is the embedding."""
    groups = in_groups(stored) if packs(device, dtype) else None
    if groups is not None and not prepacks(dtype):
        return LMHead(pack_linear(groups, bias), torch.float32)
    linear = build_linear(stored if embedding is None else embedding, bias, device, dtype)
    if not packs(device, dtype):
        return linear
    if groups is not None:
        packed = pack_linear(groups, bias)
        return LMHead(linear, dtype, packed, FEW_ROWS, packed.num_bytes)
    if embedding is not None and bias is None:
        return LMHead(linear, dtype, lambda x: wide_linear(x, embedding), FEW_WIDE_ROWS)
    return LMHead(linear, dtype)
