"""Tensors as a checkpoint has them."""

from collections.abc import Callable

import torch

from octavo_runtime.models.loading.placing import placed_rows
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix, concatenate_groups
from octavo_runtime.quantization.quantized_matrix import Quantized, QuantizedMatrix, concatenate

StoredTensor = torch.Tensor | Quantized | GroupedMatrix
ReadTensor = Callable[[str, tuple[int, ...]], StoredTensor]


def dense(stored: StoredTensor) -> torch.Tensor:
    """The tensor itself."""
    return stored if isinstance(stored, torch.Tensor) else stored.dequantize()


def fuse_rows(parts: list[StoredTensor], device: torch.device, dtype: torch.dtype) -> StoredTensor:
    """The parts' rows, one part under another; in groups where all parts are of one kind of them."""
    fused = _fused_groups(parts)
    return placed_rows([dense(part) for part in parts], device, dtype) if fused is None else fused


def _fused_groups(parts: list[StoredTensor]) -> Quantized | GroupedMatrix | None:
    of_32 = [part for part in parts if isinstance(part, QuantizedMatrix)]
    if len(of_32) == len(parts):
        return concatenate(of_32)
    groups = [part for part in parts if isinstance(part, GroupedMatrix)]
    return concatenate_groups(groups) if len(groups) == len(parts) else None


def rows_of(names: tuple[str, ...], *counts: int) -> dict[str, int]:
    """The rows of each projection, or of the one that a checkpoint stores them as."""
    return {names[0]: sum(counts)} if len(names) == 1 else dict(zip(names, counts, strict=True))
