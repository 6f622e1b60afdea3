"""SqueezeLLM (Kim et al. 2023): a codebook of each row, and outliers in a sparse matrix beside it (rows and columns as
compressed sparse rows, and some outputs whole)."""

import torch

from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.scheme import Scheme
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
        counts = get("rows").long().diff()
        rows = torch.arange(weight.rows, device=device).repeat_interleave(counts)
        places.append(torch.stack((rows, get("cols").long())))
        numbers.append(get("vals").float())
    if has("full_rows"):
        whole, rows = get("full_rows").float().T, get("full_row_indices").long()
        columns = torch.arange(weight.columns, device=device).repeat(len(rows))
        places.append(torch.stack((rows.repeat_interleave(weight.columns), columns)))
        numbers.append(whole.flatten())
    # Where both have a number, it is their sum.
    outliers = torch.sparse_coo_tensor(
        torch.cat(places, dim=1), torch.cat(numbers), tuple(weight), check_invariants=True
    ).coalesce()
    return GroupedMatrix(
        unpack_words(words.T.contiguous(), 4),
        torch.ones(weight.rows, 1, device=device),
        (1, weight.columns),
        codebook=get("lookup_table").float(),
        outliers=outliers if outliers.values().numel() else None,
    )
