"""The cases that every form of rotary is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.rotary import reference

# 16-bit: one unit in the last place, for forms may contract multiplications and additions differently.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
MAX_POSITION = 512


@dataclass(frozen=True)
class Case:
    """`fused`: q and k lie side by side in one QKV tensor; otherwise each is a tensor of its own."""

    name: str
    tokens: int
    q_heads: int
    kv_heads: int
    head_dim: int
    fused: bool = True
    rotated: int | None = None  # entries of a head; None: all


TINY_CASES = (
    Case("one token", 1, 2, 1, 16),
    Case("group of three", 3, 9, 3, 16),
    Case("padded head", 2, 2, 2, 48),
    Case("apart", 2, 4, 2, 16, fused=False),
    Case("part of a head", 3, 3, 1, 32, rotated=24),
)
CASES = (
    *TINY_CASES,
    Case("smollm2", 40, 9, 3, 64),
    Case("8B shape", 17, 32, 8, 128),
    Case("head of 80", 17, 8, 8, 80),
    Case("8B shape apart", 17, 32, 8, 128, fused=False),
    Case("no token", 0, 9, 3, 64),
    Case("GLM shape", 17, 32, 2, 128, rotated=64),
)


def error(form: Callable[..., None], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle, over q, k and what lies behind them."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(MAX_POSITION, (case.rotated or case.head_dim) // 2, generator=generator) * 6.3
    cos_sin = torch.cat((angles.cos(), angles.sin()), dim=-1).to(device)
    positions = torch.randint(MAX_POSITION, (case.tokens,), generator=generator).to(device)
    heads = case.q_heads + 2 * case.kv_heads
    qkv = torch.randn(case.tokens, heads, case.head_dim, generator=generator).to(device, dtype)
    results = []
    for rotate in (form, reference.rotary):
        q, k, v = torch.split(qkv.clone(), [case.q_heads, case.kv_heads, case.kv_heads], dim=1)
        if not case.fused:
            q, k = q.clone(), k.clone()
        rotate(q, k, positions, cos_sin)
        results.append(_flat(q, k, v))
    return largest_error(*results)


def _flat(*tensors: Tensor) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
