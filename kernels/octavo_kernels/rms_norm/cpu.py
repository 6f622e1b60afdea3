"""rms_norm for the CPU, in one pass: at small batches the overhead of each call is its cost."""

from torch import Tensor

from octavo_kernels.native import TYPES, loop

_rms_norm = loop("rms_norm", "iipiippiiiiidd")


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor | None = None, offset: float = 0.0) -> Tensor:
    """See `octavo_kernels.rms_norm`. 16-bit types are rounded once, behind the weight."""
    out = x.new_empty(x.shape, dtype=weight.dtype) if out is None else out
    heads = x.shape[1] if x.dim() == 3 else 1
    _rms_norm(
        TYPES[x.dtype], TYPES[weight.dtype], x, x.stride(0), x.stride(-2), weight, out, out.stride(0), out.stride(-2),
        x.shape[0], heads, x.shape[-1], eps, offset,
    )  # fmt: skip
    return out
