"""The cases that every form of gate_mul is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.gate_mul import GatedActivation, reference

# 16-bit: two units in the last place, for a form may round before the multiplication and after it.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@dataclass(frozen=True)
class Case:
    name: str
    tokens: int
    intermediate: int
    activation: GatedActivation = "silu"


TINY_CASES = (
    Case("one token", 1, 32),
    Case("two pieces", 2, 1040),
    Case("one token, gelu", 1, 32, "gelu_tanh"),
    Case("two pieces, gelu", 2, 1040, "gelu_tanh"),
    Case("one token, exact gelu", 1, 32, "gelu"),
    Case("two pieces, exact gelu", 2, 1040, "gelu"),
)
CASES = (
    *TINY_CASES,
    Case("smollm2", 17, 1536),
    Case("8B shape", 5, 14336),
    Case("Gemma 2 shape", 5, 9216, "gelu_tanh"),
    Case("ModernBERT shape", 65, 1152, "gelu"),
    Case("no token", 0, 64),
)


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle. Gates reach from -40 to 40: exp must not overflow."""
    generator = torch.Generator().manual_seed(0)
    gate_up = torch.randn(case.tokens, 2 * case.intermediate, generator=generator) * 10
    gate_up[:, ::2] /= 10  # where gelu bends
    gate_up = gate_up.to(device, dtype)
    out = torch.full((case.tokens, case.intermediate), torch.nan, dtype=dtype, device=device)
    form(gate_up, case.activation, out)
    return largest_error(out, reference.gate_mul(gate_up, case.activation))
