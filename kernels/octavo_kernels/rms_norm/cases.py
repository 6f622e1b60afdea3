"""The cases that every form of rms_norm is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.rms_norm import reference

# 16-bit: two units in the last place, for a form may round before the weight, after it, or both.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
EPS = 1e-5


@dataclass(frozen=True)
class Case:
    """heads: of each token, each normalised by itself; None: the token as a whole."""

    name: str
    tokens: int
    hidden: int
    heads: int | None = None
    offset: float = 0.0


TINY_CASES = (
    Case("one token", 1, 32),
    Case("padded row", 3, 48),
    Case("heads", 2, 16, heads=3),
    Case("heads, offset", 2, 16, heads=3, offset=1.0),
    Case("offset", 3, 48, offset=1.0),
)
CASES = (
    *TINY_CASES,
    Case("smollm2", 17, 576),
    Case("8B shape", 5, 4096),
    Case("wide", 2, 16384),
    Case("Gemma 2 shape", 5, 2304, offset=1.0),
    Case("no token", 0, 64),
)


def error(
    form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str, stream: torch.dtype | None = None
) -> float:
    """Largest error of `form` against the oracle; x is in `stream`, by default the weight's dtype."""
    generator = torch.Generator().manual_seed(0)
    # Every second row of a tensor: a row's stride is not its length.
    shape = case.tokens, 2, *([] if case.heads is None else [case.heads]), case.hidden
    x = torch.randn(shape, generator=generator).to(device, stream or dtype)[:, 0]
    weight = torch.randn(case.hidden, generator=generator).to(device, dtype)
    out = torch.full(x.shape, torch.nan, dtype=dtype, device=device)
    form(x, weight, EPS, out, offset=case.offset)
    return largest_error(out, reference.rms_norm(x, weight, EPS, offset=case.offset))
