"""The cases that every form of gelu_mul is checked on: silu_mul's."""

from collections.abc import Callable

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.gelu_mul import reference
from octavo_kernels.silu_mul.cases import CASES, TINY_CASES, TOLERANCES, Case

__all__ = ["CASES", "TINY_CASES", "TOLERANCES", "Case", "error"]


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle. Gates reach from -40 to 40: exp must not overflow."""
    generator = torch.Generator().manual_seed(0)
    gate_up = torch.randn(case.tokens, 2 * case.intermediate, generator=generator) * 10
    gate_up[:, ::2] /= 10  # where gelu bends
    gate_up = gate_up.to(device, dtype)
    out = torch.full((case.tokens, case.intermediate), torch.nan, dtype=dtype, device=device)
    form(gate_up, out)
    return largest_error(out, reference.gelu_mul(gate_up))
