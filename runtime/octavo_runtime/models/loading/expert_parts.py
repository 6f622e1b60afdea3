"""Which stored tensors the projections of a layer's experts come in."""

from collections.abc import Iterator
from typing import NamedTuple

from octavo_runtime.models.loading.stored_tensors import rows_of
from octavo_runtime.models.spec import ExpertLayers
from octavo_runtime.models.tensor_names import ExpertNames


class ExpertPart(NamedTuple):
    """What one stored tensor is of a projection of all experts that are here, [experts, rows, columns]."""

    name: str
    shape: tuple[int, ...]
    place: int | None  # of which of the experts; None: of all
    rows: slice

    @property
    def num_rows(self) -> int:
        return int(self.rows.stop - self.rows.start)


def expert_parts(
    stored: tuple[str, ...], names: ExpertNames, has: ExpertLayers, columns: int, *counts: int
) -> Iterator[ExpertPart]:
    """The stored tensors of projections with so many rows each that run as one."""
    first = 0
    for name, count in rows_of(stored, *counts).items():
        rows = slice(first, first + count)
        first += count
        if "{}" not in name:
            shape = (columns, count) if names.is_transposed else (count, columns)
            yield ExpertPart(name, (len(has.here), *shape), None, rows)
        else:
            for place, expert in enumerate(has.here):
                yield ExpertPart(name.format(expert), (count, columns), place, rows)
