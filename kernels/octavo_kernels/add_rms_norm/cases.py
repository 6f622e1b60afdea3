"""The cases that every form of add_rms_norm is checked on: rms_norm's."""

from collections.abc import Callable

import torch
from torch import Tensor

from octavo_kernels.add_rms_norm import reference
from octavo_kernels.comparison import largest_error
from octavo_kernels.rms_norm.cases import CASES, EPS, TINY_CASES, TOLERANCES, Case

__all__ = ["CASES", "TINY_CASES", "TOLERANCES", "Case", "error"]


def error(
    form: Callable[..., tuple[Tensor, Tensor]],
    case: Case,
    dtype: torch.dtype,
    device: str,
    stream: torch.dtype | None = None,
) -> float:
    """Largest error of `form` against the oracle, over both results, in memory of its own and, of x times a
    multiplier, where the residual was; that is in `stream`, else x's dtype."""
    generator = torch.Generator().manual_seed(0)
    # Every second row of a tensor: a row's stride is not its length.
    x, residual = torch.randn(2, case.tokens, 2, case.hidden, generator=generator).to(device)[:, :, 0]
    x, residual = x.to(dtype), residual.to(stream or dtype)
    weight = torch.randn(case.hidden, generator=generator).to(device, dtype)
    total = residual.clone(memory_format=torch.contiguous_format)
    offset = case.offset
    pairs = (
        (
            form(x, residual, weight, EPS, offset=offset),
            reference.add_rms_norm(x, residual, weight, EPS, offset=offset),
        ),
        (
            form(x, total, weight, EPS, total, 0.22, offset),
            reference.add_rms_norm(x, residual, weight, EPS, None, 0.22, offset),
        ),
    )
    written = largest_error(total, pairs[1][1][1])
    return max(written, *(largest_error(*results) for both in pairs for results in zip(*both, strict=True)))
