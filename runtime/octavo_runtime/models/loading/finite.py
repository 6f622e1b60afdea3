"""Whether the numbers of a checkpoint are numbers: one NaN in a weight makes every answer meaningless."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

from octavo_runtime.models.loading.stored_tensors import ReadTensor, StoredTensor
from octavo_runtime.models.spec import UnsupportedModel

_PIECE = 2**24  # numbers of 8 bits that are looked at together: what that takes is no memory that the cache would miss


def check_finite(name: str, stored: object) -> None:
    """Raises UnsupportedModel where a tensor, or what one in fewer bits is made of, holds NaN or infinity."""
    if not all_finite(floating(stored)):
        raise UnsupportedModel(f"{name} must hold finite numbers, got NaN or infinity")


def finite(read: ReadTensor) -> ReadTensor:
    """The same source of tensors, each of them checked."""

    def checked(name: str, shape: tuple[int, ...]) -> StoredTensor:
        stored = read(name, shape)
        check_finite(name, stored)
        return stored

    return checked


def check_placed(model: object, read: ReadTensor, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """The same of a model whose weights are on a GPU, which looks through them in a moment. read, shapes: of its
    checkpoint, to find the name of a tensor by where there is one to blame: not where a number became too large for
    the type that is computed in."""
    if not all_finite(floating(model)):
        for name, shape in shapes.items():
            check_finite(name, read(name, shape))


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor holds NaN, which minimum and maximum become too, or infinity. Waits for a device once."""
    found = [_is_finite(tensor) for tensor in tensors if tensor.numel()]
    return bool(torch.stack(found).all()) if found else True


def _is_finite(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.float8_e4m3fn:  # whose NaN are all bits but the sign, and which has no infinity
        pieces = tensor.view(torch.uint8).reshape(-1).split(_PIECE)
        return torch.stack([((piece & 0x7F) != 0x7F).all() for piece in pieces]).all()
    return torch.stack(tensor.aminmax()).isfinite().all()


def floating(part: object) -> Iterator[Tensor]:
    """The tensors that a part of a model is made of, and whose numbers may be none."""
    if isinstance(part, Tensor):
        if part.is_floating_point() and (part.itemsize > 1 or part.dtype == torch.float8_e4m3fn):
            sparse = part.coalesce() if part.layout == torch.sparse_coo else part
            yield (sparse if sparse.layout == torch.strided else sparse.values()).detach()
    elif is_dataclass(part):
        for field in fields(part):
            yield from floating(getattr(part, field.name))
    elif isinstance(part, Sequence) and not isinstance(part, str | bytes):
        for each in part:
            yield from floating(each)
