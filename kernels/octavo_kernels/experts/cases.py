"""The cases that every form of experts is checked on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.experts import Biases, GroupedExperts, PackedWeights, StackedGroups, Weights, reference
from octavo_kernels.grouped_linear.cases import Case as GroupedCase
from octavo_kernels.grouped_linear.cases import Kind, random_weights
from octavo_kernels.quantized_linear import GROUP, PackedGroups, pack
from octavo_kernels.quantized_linear.formats import EIGHT_BITS, Format

# 16-bit: a form may round the inner state and the result of each expert. Results are about as large as 1.
TOLERANCES = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class Case:
    """choice: of a token's experts: as many tokens for each, the same for all tokens, or at random. kept: how the
    weights are."""

    name: str
    tokens: int
    hidden: int
    inner: int
    experts: int
    top_k: int
    choice: Literal["balanced", "same", "random"] = "random"
    limit: float | None = None  # with biases
    kept: Literal["plain", "mxfp4", "groups"] | Kind = "plain"
    group: tuple[int, int] = (1, 32)  # rows and columns that share a scale, of grouped_linear's kinds; 0: all columns
    elsewhere: int = 0  # experts of those, from which a token chooses, that are not here: half of them come first


TINY_CASES = (
    Case("one token, more experts", 1, 48, 40, 7, 2),
    Case("balanced", 8, 64, 32, 4, 2, "balanced"),
    Case("all to the same", 40, 48, 24, 5, 2, "same"),
    Case("clamped, with biases", 9, 48, 40, 4, 2, limit=1.5),
    Case("packed", 20, 96, 64, 5, 2, kept="mxfp4"),
    Case("packed, one token", 1, 96, 64, 5, 2, kept="mxfp4"),
    Case("most experts elsewhere", 12, 48, 40, 3, 3, elsewhere=6),
    Case("packed, clamped, with biases", 3, 160, 32, 5, 3, limit=1.5, kept="mxfp4"),
    Case("packed, clamped, with biases, one token", 1, 160, 32, 5, 3, limit=1.5, kept="mxfp4"),
    Case("int4, clamped, with biases, most elsewhere, one token", 1, 64, 96, 4, 3, limit=1.5, kept="int4", elsewhere=6),
    Case("int8 with zeros, one token", 1, 96, 64, 5, 2, kept="int8 with zeros"),
    Case("fp8 blocks, two tokens", 2, 320, 48, 4, 2, kept="fp8", group=(32, 64)),
    Case("codes, two tokens", 2, 64, 48, 5, 2, kept="codes", group=(1, 16)),
    Case("int4", 7, 128, 64, 5, 2, kept="int4", group=(1, 64)),
    Case("int4, clamped, with biases, most elsewhere", 9, 64, 96, 3, 3, limit=1.5, kept="int4", elsewhere=6),
    Case("codes of rows, many rows", 40, 80, 48, 3, 2, "same", kept="codes of rows", group=(1, 0)),
    Case("int8", 8, 64, 32, 4, 2, "balanced", kept="int8", group=(1, 0)),
    Case("int8 with zeros", 5, 96, 64, 5, 2, kept="int8 with zeros"),
    Case("fp8 blocks, of gate and up together", 12, 96, 48, 4, 2, kept="fp8", group=(32, 64)),
    Case("fp8 of rows", 3, 48, 40, 4, 2, kept="fp8", group=(1, 0)),
    Case("codes", 6, 64, 48, 5, 2, kept="codes", group=(1, 16)),
    Case("q4_1", 6, 64, 96, 5, 2, kept="q4_1"),
    Case("q4_k", 1, 256, 256, 2, 1, kept="q4_k"),
    Case("q6_k", 1, 256, 256, 2, 1, kept="q6_k"),
)
CASES = (
    *TINY_CASES,
    Case("8 tokens, all experts", 8, 96, 56, 6, 6),
    Case("256 tokens", 256, 96, 40, 8, 2),
    Case("256 tokens, balanced", 256, 96, 40, 8, 2, "balanced"),
    Case("8 tokens, all to one", 8, 80, 40, 8, 1, "same"),
    Case("256 tokens, all to one", 256, 80, 40, 8, 1, "same"),
    Case("smollm2", 17, 576, 192, 60, 4),
    Case("8B shape", 256, 2048, 768, 8, 4),
    Case("8B shape, one token", 1, 2048, 768, 16, 8),
    Case("8B shape, packed", 40, 768, 768, 8, 4, limit=7.0, kept="mxfp4"),
    Case("8B shape, int4", 40, 768, 768, 8, 4, kept="int4", group=(1, 128)),
    Case("int4, one token", 1, 768, 768, 8, 4, kept="int4", group=(1, 128)),
    Case("8B shape, q4_k", 40, 768, 768, 8, 4, kept="q4_k"),
    Case("8B shape, q5_k, one token", 1, 768, 768, 8, 4, kept="q5_k"),
    Case("8B shape, q6_k, 256 tokens", 256, 768, 768, 8, 4, kept="q6_k"),
    Case("int8, 256 tokens", 256, 768, 768, 8, 4, kept="int8", group=(1, 0)),
    Case("8B shape, fp8 blocks", 256, 768, 768, 8, 4, kept="fp8", group=(128, 128)),
    Case("8B shape, fp8 blocks, one token", 1, 768, 768, 8, 4, kept="fp8", group=(128, 128)),
    Case("codes, 40 tokens", 40, 768, 768, 8, 4, kept="codes", group=(1, 16)),
    Case("fp8 blocks, many rows", 600, 256, 128, 4, 2, kept="fp8", group=(128, 128)),
    Case("int4, many rows", 600, 256, 128, 4, 2, kept="int4", group=(1, 64)),
    Case("no token", 0, 64, 32, 4, 2),
    Case("int4, no token", 0, 64, 32, 4, 2, kept="int4"),
)
# Of what CPUs alone compute with, where states are of 16 bits.
GROUPED_CASES = (
    Case("groups", 20, 96, 64, 5, 2, kept="groups"),
    Case("groups, clamped, with biases", 9, 64, 96, 4, 3, limit=1.5, kept="groups"),
    Case("groups, all to one", 130, 160, 32, 3, 1, "same", kept="groups"),
    Case("groups, no token", 0, 64, 32, 4, 2, kept="groups"),
)


def error(form: Callable[..., Tensor], case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of `form` against the oracle. The first experts get most of the tokens that choose at random, the
    last ones often none."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        drawn: Tensor = torch.randn(shape, generator=generator) * shape[-1] ** -0.5
        return drawn.to(device, dtype)

    hidden = random(case.tokens, case.hidden) * case.hidden**0.5
    plain = random(case.experts, 2 * case.inner, case.hidden), random(case.experts, case.hidden, case.inner)
    biases = Biases(random(case.experts, 2 * case.inner), random(case.experts, case.hidden)) if case.limit else None
    gate_up, down = (_kept(each, case, generator) for each in plain)
    weights = torch.rand(case.tokens, case.top_k, generator=generator).to(device)
    out = torch.full((case.tokens, case.hidden), torch.nan, dtype=dtype, device=device)
    ids = _ids(case, generator).to(device)
    form(hidden, gate_up, down, ids, weights, out, biases, case.limit)
    expected = reference.experts(hidden, gate_up, down, ids, weights, None, biases, case.limit)
    return largest_error(out, expected)


def _kept(weight: Tensor, case: Case, generator: torch.Generator) -> Weights:
    if case.kept == "mxfp4":
        return _packed(weight, generator)
    if case.kept == "plain":
        return weight
    if case.kept != "groups":
        count, rows, width = weight.shape
        drawn = random_weights(GroupedCase(case.name, case.kept, 0, width, count * rows, case.group), generator)
        if drawn.zeros is not None:  # they spread what stands for numbers of about width ** -0.5 without them
            drawn = replace(drawn, scales=drawn.scales * 0.7)
        return StackedGroups(drawn.to(weight.device), count)
    # The halves of an expert are of several formats.
    halves = (expert.chunk(2) for expert in weight)
    return GroupedExperts(tuple((_in_groups(first, 4), _in_groups(last, 8)) for first, last in halves))


def _in_groups(weight: Tensor, bits: int) -> PackedGroups:
    most = 2 ** (bits - 1) - 1
    grouped = weight.float().unflatten(1, (-1, GROUP))
    scales = (grouped.abs().amax(dim=-1) / most).half().float()
    values = (grouped / scales.unsqueeze(-1)).round().clamp(-most, most).flatten(1)
    if bits == 8:
        return pack(values.to(torch.int8), scales, None, EIGHT_BITS)
    return pack((values + most + 1).to(torch.uint8), scales, None, Format(bits, offset=most + 1))


def _packed(like: Tensor, generator: torch.Generator) -> PackedWeights:
    """Random weights of the shape, about as large as `like`'s."""
    count, rows, width = like.shape
    blocks = torch.randint(256, (count, rows, width // 2), dtype=torch.uint8, generator=generator)
    exponent = 127 - round(math.log2(width) / 2 + 2.95)  # 4-bit numbers and the scales' spread are about 8 together
    scales = exponent + torch.randint(3, (count, rows, width // 32), generator=generator)
    return PackedWeights(blocks.to(like.device), scales.to(like.device, torch.uint8))


def _ids(case: Case, generator: torch.Generator) -> Tensor:
    if case.choice == "same":
        return torch.arange(case.experts)[-case.top_k :].repeat(case.tokens, 1)
    if case.choice == "balanced":
        return torch.arange(case.tokens * case.top_k).view(case.tokens, case.top_k) % case.experts
    every = case.experts + case.elsewhere
    liked: Tensor = torch.rand(case.tokens, every, generator=generator) - torch.linspace(0, 0.8, every)
    return liked.topk(case.top_k).indices - case.elsewhere // 2
