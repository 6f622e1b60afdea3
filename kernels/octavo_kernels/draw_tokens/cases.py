"""The cases that every form of draw_tokens is checked on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.draw_tokens import Newest
from octavo_kernels.draw_tokens.reference import noised

# How much less the drawn token may have than the best: forms round logarithms differently.
TOLERANCES = dict.fromkeys((torch.float32, torch.float16, torch.bfloat16), 1e-4)


@dataclass(frozen=True)
class Case:
    """The temperatures are taken in turn."""

    name: str
    draws: int
    vocab: int
    temperatures: tuple[float, ...] = (0.0, 1.0, 0.3)
    ties: bool = False


TINY_CASES = (
    Case("one token", 1, 33),
    Case("both ways", 6, 1500),
    Case("ties", 3, 700, (0.0,), ties=True),
    Case("one word", 2, 1),
)
CASES = (
    *TINY_CASES,
    Case("smollm2", 17, 49_152),
    Case("8B shape", 5, 128_256),
    Case("many draws", 300, 5000, (1.0, 0.0)),
    Case("no token", 0, 64),
)


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """By how much the drawn tokens fall short of the best; infinite where a token is none, a tie is not decided for the
    first, or a row does not keep its token."""
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(case.draws, case.vocab, generator=generator) * 3).to(device, dtype)
    if case.ties:
        scores = scores.round().clamp(max=2)
    temperatures = torch.tensor(case.temperatures * case.draws, device=device)[: case.draws]
    keys = torch.randint(0, 2**31 - 1, (case.draws,), generator=generator, dtype=torch.int32).to(device)
    hashes = torch.randint(0, 2**31 - 1, (case.vocab,), generator=generator, dtype=torch.int32).to(device)
    rows = torch.randperm(case.draws + 3, generator=generator)[: case.draws].to(device, torch.int32)
    newest = torch.full((case.draws + 3,), -7, device=device)
    drawn = form(scores, temperatures, keys, hashes, None, Newest(newest, rows))
    if case.draws == 0:
        return 0.0 if drawn.shape == (0,) else torch.inf
    if drawn.shape != (case.draws,) or not bool(((drawn >= 0) & (drawn < case.vocab)).all()):
        return torch.inf
    kept = torch.full_like(newest, -7)
    kept[rows.long()] = drawn
    if not torch.equal(newest, kept):
        return torch.inf
    best = noised(scores, temperatures, keys, hashes)
    if case.ties and not torch.equal(drawn, best.argmax(dim=-1)):
        return torch.inf
    return (best.amax(dim=-1) - best.gather(1, drawn[:, None])[:, 0]).max().item()
