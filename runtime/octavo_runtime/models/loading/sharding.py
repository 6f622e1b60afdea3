"""One rank's rows and columns of stored tensors."""

import re

import torch

from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor, dense
from octavo_runtime.models.loading.tensor_shapes import tensor_shapes
from octavo_runtime.models.shards import fused_rows, is_added_once, stacks_experts
from octavo_runtime.models.spec import HeldExperts, ModelSpec
from octavo_runtime.quantization.grouped_matrix import GroupedMatrix
from octavo_runtime.quantization.quantized_matrix import QuantizedMatrix


def sharded(read: ReadTensor, whole: ModelSpec, share: ModelSpec, rank: int, size: int) -> ReadTensor:
    """Reads of each tensor of `whole` what a rank has of it. share: see models.shards.shard."""
    shapes = tensor_shapes(whole)

    def read_share(name: str, shape: tuple[int, ...]) -> StoredTensor:
        name = _of_head(name, whole, share, rank, size)
        stored = read(name, shapes[name])
        held = None if share.experts is None else share.experts.held
        if held is not None and stacks_experts(whole, name):
            return _of_experts(stored, shapes[name], held)
        is_grouped = isinstance(stored, GroupedMatrix | QuantizedMatrix)
        if len(shapes[name]) > 2 and not is_grouped:  # rows of experts may be under one another
            stored = dense(stored).view(shapes[name])
        cut = [axis for axis, count in enumerate(shapes[name]) if shape[axis] != count]
        if not cut:
            return torch.zeros_like(dense(stored)) if rank and is_added_once(whole, name) else stored
        [axis] = cut
        parts = fused_rows(whole, name) or (shapes[name][axis],)
        mine = fused_rows(share, name) or (shape[axis],)
        places = _places(parts, mine, rank, size)
        if len(shapes[name]) > 2 and isinstance(stored, GroupedMatrix | QuantizedMatrix):
            return _taken_of_each(stored, shapes[name], axis, places)
        return _taken(stored, axis, places)

    return read_share


def places_of_heads(whole: ModelSpec, share: ModelSpec, rank: int, size: int) -> torch.Tensor:
    """[kv_heads of a rank] int64: which of the KV heads they are."""
    return _places((whole.num_kv_heads,), (share.num_kv_heads,), rank, size)


def _of_head(name: str, whole: ModelSpec, share: ModelSpec, rank: int, size: int) -> str:
    """The name of a tensor of one head, which a rank asks for by its own count of heads, by that of all ranks."""
    names = whole.tensors
    of_heads = (names.q_norm, whole.num_heads, share.num_heads), (names.k_norm, whole.num_kv_heads, share.num_kv_heads)
    for stem, heads, mine in of_heads:
        before, numbered, after = stem.partition("{}")
        found = re.fullmatch(rf"(.+{re.escape(before)})(\d+)({re.escape(after)}\.weight)", name) if numbered else None
        if found:
            return f"{found[1]}{int(_places((heads,), (mine,), rank, size)[int(found[2])])}{found[3]}"
    return name


def _places(parts: tuple[int, ...], mine: tuple[int, ...], rank: int, size: int) -> torch.Tensor:
    """The places of a rank's share of each part, where the parts lie one behind another. Ranks share a part's share
    where there are fewer shares than ranks."""
    found, first = [], 0
    for part, share in zip(parts, mine, strict=True):
        begin = first + rank * part // (size * share) * share
        found.append(torch.arange(begin, begin + share))
        first += part
    return torch.cat(found)


def _of_experts(stored: StoredTensor, shape: tuple[int, ...], held: HeldExperts) -> StoredTensor:
    """What some experts have of a tensor of that shape, [experts, ...], which groups hold as the rows of one under
    those of another."""
    if not isinstance(stored, QuantizedMatrix | GroupedMatrix):
        return dense(stored).view(shape).narrow(0, *held)
    first, number = (count * shape[1] for count in held)
    return stored.rows(torch.arange(first, first + number))


def _taken_of_each(
    stored: GroupedMatrix | QuantizedMatrix, shape: tuple[int, ...], axis: int, places: torch.Tensor
) -> StoredTensor:
    """The same of the rows or columns of each expert, where the rows of one are under those of another."""
    experts, rows, _ = shape
    if axis == 1:
        return stored.rows((rows * torch.arange(experts).unsqueeze(1) + places).flatten())
    taken = _taken(stored, 1, places)
    return taken.view(experts, rows, -1) if isinstance(taken, torch.Tensor) else taken


def _taken(stored: StoredTensor, axis: int, places: torch.Tensor) -> StoredTensor:
    if not isinstance(stored, torch.Tensor) and axis == 0:
        return stored.rows(places)
    first, count = int(places[0]), len(places)
    if isinstance(stored, GroupedMatrix | QuantizedMatrix) and int(places[-1]) == first + count - 1:
        columns = stored.columns(first, count)
        if columns is not None:
            return columns
    if int(places[-1]) == first + count - 1:
        return dense(stored).narrow(axis, first, count).contiguous()
    return dense(stored).index_select(axis, places.to(dense(stored).device))
