"""SqueezeLLM (Kim et al. 2023): a codebook of each row, and outliers in a sparse matrix beside it (rows and columns as
compressed sparse rows, and some outputs whole)."""

import torch

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.scheme import Scheme, UnsupportedQuantization
from octavo_runtime.quantization.stored_parts import FLOATS, Get, Has, Part, StoredForm, Weight
from octavo_runtime.quantization.unpacking import unpack_words


def form(_: Scheme) -> StoredForm:
    """See StoredForm."""
    return StoredForm(("qweight",), _parts, _read)


def _parts(weight: Weight, has: Has) -> dict[str, Part]:
    found = {
        "qweight": Part(("I32",), (weight.columns // 8, weight.rows)),
        "lookup_table": Part(FLOATS, (weight.rows, 16)),
    }
    if has("rows"):
        found |= {"rows": Part(("I32",), (weight.rows + 1,)), "cols": Part(("I32",)), "vals": Part(FLOATS)}
    if has("full_rows"):
        found |= {"full_rows": Part(FLOATS, (weight.columns, None)), "full_row_indices": Part(("I32",))}
    return found | ({"startrows": Part(("I32",), is_read=False)} if has("startrows") else {})


def _read(weight: Weight, has: Has, get: Get) -> GroupedMatrix:
    words = get("qweight")
    device = words.device
    places, numbers = [torch.empty(2, 0, dtype=torch.int64, device=device)], [torch.empty(0, device=device)]
    if has("rows"):
        starts, columns, values = get("rows").long(), get("cols").long().flatten(), get("vals").float().flatten()
        counts = starts.diff()
        if len(falls := (counts < 0).nonzero()):
            at = int(falls[0])
            raise UnsupportedQuantization(f"rows must not fall, got {starts[at + 1]} after {starts[at]}")
        if starts[0] != 0 or starts[-1] != len(columns):
            found = f"{starts[0]} to {starts[-1]}"
            raise UnsupportedQuantization(f"rows must be from 0 to {len(columns)}, the numbers of cols, got {found}")
        if len(values) != len(columns):
            raise UnsupportedQuantization(f"vals must hold {len(columns)} numbers as cols does, got {len(values)}")
        _check_below("cols", columns, weight.columns)
        rows = torch.arange(weight.rows, device=device).repeat_interleave(counts)
        places.append(torch.stack((rows, columns)))
        numbers.append(values)
    if has("full_rows"):
        whole, rows = get("full_rows").float().T, get("full_row_indices").long().flatten()
        if len(rows) != len(whole):
            raise UnsupportedQuantization(
                f"full_row_indices must hold {len(whole)} numbers, one for each of full_rows, got {len(rows)}"
            )
        _check_below("full_row_indices", rows, weight.rows)
        columns = torch.arange(weight.columns, device=device).repeat(len(rows))
        places.append(torch.stack((rows.repeat_interleave(weight.columns), columns)))
        numbers.append(whole.flatten())
    with torch.sparse.check_sparse_tensor_invariants(enable=False):  # said, so that torch does not ask for it
        # Where both have a number, it is their sum.
        outliers = torch.sparse_coo_tensor(torch.cat(places, dim=1), torch.cat(numbers), tuple(weight)).coalesce()
    return GroupedMatrix(
        unpack_words(words.T.contiguous(), 4),
        torch.ones(weight.rows, 1, device=device),
        (1, weight.columns),
        codebook=get("lookup_table").float(),
        outliers=outliers if outliers.values().numel() else None,
    )


def _check_below(name: str, places: torch.Tensor, end: int) -> None:
    if len(wrong := places[(places < 0) | (places >= end)]):
        raise UnsupportedQuantization(f"{name} must be from 0 to {end - 1}, got {wrong[0]}")
