"""The tensors that a format stores of one projection. Free of torch."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from octavo_runtime.quantization.grouped_matrix import GroupedMatrix

FLOATS = ("F32", "F16", "BF16")


class Part(NamedTuple):
    """A tensor of a projection: safetensors' names of the types it may have; its shape, with None for any size, or how
    many numbers it may hold, whatever its shape. is_read: it bears on the weight, and is not there for other
    arithmetic."""

    types: tuple[str, ...]
    shape: tuple[int | None, ...] | None = None
    size: tuple[int, ...] | None = None
    is_read: bool = True

    def problem(self, kind: str, shape: tuple[int, ...]) -> str | None:
        """Why a tensor of that type and shape is not this part."""
        if kind not in self.types:
            return f"type must be one of {', '.join(self.types)}, got {kind}"
        if self.shape is not None:
            fits = len(shape) == len(self.shape) and all(
                mine in (None, theirs) for mine, theirs in zip(self.shape, shape, strict=True)
            )
            return None if fits else f"shape must be {tuple(self.shape)}, got {shape}".replace("None", "any")
        if self.size is not None and math.prod(shape) not in self.size:
            return f"must hold {' or '.join(map(str, self.size))} numbers, got shape {shape}"
        return None


class Weight(NamedTuple):
    """A projection [rows, columns] that is stored in parts."""

    rows: int
    columns: int

    def groups(self, wide: int) -> int:
        """Of so many columns each; 0: one of all."""
        return -(-self.columns // wide) if wide else 1

    def groups_of_rows(self, high: int) -> int:
        """Of so many rows each."""
        return -(-self.rows // high)


Has = Callable[[str], bool]  # whether there is a part of a name, such as weight_scale
Get = Callable[[str], "Tensor"]


class StoredForm(NamedTuple):
    """markers: parts of which one is there where a projection is stored in this form. parts: of a weight; raises
    UnsupportedQuantization. read: the parts as a matrix."""

    markers: tuple[str, ...]
    parts: Callable[["Weight", Has], Mapping[str, Part]]
    read: Callable[["Weight", Has, Get], "GroupedMatrix"]
