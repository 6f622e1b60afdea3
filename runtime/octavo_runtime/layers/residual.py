"""What is added to the residual stream, and the norm that reads the sum, in as few kernels as there can be."""

from dataclasses import dataclass

from torch import Tensor

from octavo_kernels.begun_norm import BegunNorm
from octavo_runtime.layers.linear import DenseLinear, GroupedLinear, Linear, Norming
from octavo_runtime.layers.norm import Norm, RMSNorm


@dataclass(frozen=True)
class Product:
    """What a projection of x [tokens, in] adds to the stream. It is not computed before it is added."""

    linear: Linear
    x: Tensor


Addend = Tensor | Product  # [tokens, hidden]
Normed = Tensor | BegunNorm  # [tokens, hidden]


def computed(addend: Addend) -> Tensor:
    """[tokens, hidden]."""
    return addend if isinstance(addend, Tensor) else addend.linear(addend.x)


def normed(stream: Tensor, added: Addend | None, norm: Norm) -> Tensor:
    """The norm of the stream [tokens, hidden], once `added` is added to it in place: by the norm, or, of many rows, by
    the product."""
    match added, norm:
        case Product(DenseLinear() as linear, x), RMSNorm(multiplier=1.0) if linear.adds_to(stream):
            linear.add_to(stream, x)
            added = None
    return norm(stream, None if added is None else computed(added))


def normed_for(reader: Linear, stream: Tensor, added: Addend | None, norm: Norm) -> Normed:
    """The same for a projection that alone reads it. Between two products of few rows there is no kernel for the norm:
    the first one adds to the stream and multiplies by the norm's weight, and the reader divides by the root of the mean
    square."""
    is_ended = isinstance(reader, Norming) and reader.ends_norm(stream)
    match added, norm:
        case Product(DenseLinear() | GroupedLinear() as linear, x), RMSNorm(weight, eps, 1.0, offset) if is_ended:
            if linear.begins_norm(stream):
                return linear.begin_norm(stream, x, weight, eps, offset)
    return normed(stream, added, norm)


def project(reader: Linear, rows: Normed, out: Tensor | None = None) -> Tensor:
    """The reader's product of what normed_for has made for it. out: see Linear."""
    if isinstance(rows, Tensor):
        return reader(rows, out)
    assert isinstance(reader, Norming), "others end no norm"
    return reader(rows, out)
