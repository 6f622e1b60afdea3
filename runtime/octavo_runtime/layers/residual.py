"""What is added to the residual stream, and the norm that reads the sum, in as few kernels as there can be."""

from dataclasses import dataclass

from torch import Tensor

from octavo_kernels.skinny_linear import BegunNorm, skinny_add_linear, skinny_linear
from octavo_runtime.layers.linear import DenseLinear, Linear
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
    if isinstance(reader, DenseLinear) and reader.streams_for(stream):
        match added, norm:
            case Product(DenseLinear() as linear, x), RMSNorm(weight, eps, 1.0, offset) if linear.begins_norm(stream):
                return skinny_add_linear(x, linear.weight, stream, weight, eps, offset)
    return normed(stream, added, norm)


def project(reader: Linear, rows: Normed, out: Tensor | None = None) -> Tensor:
    """The reader's product of what normed_for has made for it. out: see Linear."""
    if isinstance(rows, Tensor):
        return reader(rows, out)
    assert isinstance(reader, DenseLinear), "others end no norm"
    return skinny_linear(rows, reader.weight, reader.bias, out)
