"""draw_tokens in Triton: each draw's vocabulary is cut into parts, and the best of the parts wins."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.draw_tokens import Newest

PIECE = 1024  # tokens at a time


@triton.jit
def negative_log_time(hash_of_token, key):
    """-log(E) float32, E exponential, for hashes [PIECE] int32 and one key. Where E is small, which is where races are
    won, -log(1 - u) is taken as a series: 1 - u would round away what tells times apart."""
    bits = (hash_of_token ^ key).to(tl.uint32)
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x7FEB352D) & 0x7FFFFFFF
    bits = bits ^ (bits >> 15)
    bits = (bits * 0x6CA68B45) & 0x7FFFFFFF
    bits = bits ^ (bits >> 16)
    uniform = (bits.to(tl.int32).to(tl.float32) + 0.5) * 4.656612595521636e-10
    series = uniform * (1 + uniform * (0.5 + uniform * (0.33333333 + uniform * (0.25 + uniform * 0.2))))
    time = tl.where(uniform < 0.03125, series, -tl.log(1 - uniform))
    return -tl.log(time)


@triton.jit
def first_of_best(value, token):
    """The greatest of the values [n] float32, and the least of the tokens [n] int32 that have it."""
    best = tl.max(value, 0)
    return best, tl.min(tl.where(value == best, token, 0x7FFFFFFF), 0)


@triton.jit
def part_kernel(
    part_value,
    part_token,
    scores,
    temperatures,
    keys,
    hashes,
    stride_scores,
    vocab,
    PARTS: tl.constexpr,
    PIECE: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """The winner of each part of a draw's vocabulary. Grid: (draws, PARTS).

    part_value: [draws, PARTS] float32 and part_token: [draws, PARTS] int32 are written. scores: [draws, vocab], any
    float, stride of its rows in elements. temperatures: [draws] float32. keys: [draws] int32. hashes: [vocab] int32.
    PIECE: tokens that a program compares at a time."""
    wait_for_last(DEPENDENT)
    draw = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    temperature = tl.load(temperatures + draw)
    key = tl.load(keys + draw)
    length = tl.cdiv(tl.cdiv(vocab, PARTS), PIECE) * PIECE
    start = part * length
    end = tl.minimum(vocab, start + length)
    lane = tl.arange(0, PIECE)
    best = tl.full([PIECE], float("-inf"), tl.float32)
    best_token = tl.minimum(start + lane, vocab - 1)
    for first in range(start, end, PIECE):
        token = first + lane
        inside = token < end
        value = tl.load(scores + draw * stride_scores + token, mask=inside, other=float("-inf")).to(tl.float32)
        if temperature > 0:
            value = value / temperature + negative_log_time(tl.load(hashes + token, mask=inside, other=0), key)
        better = value > best
        best = tl.where(better, value, best)
        best_token = tl.where(better, token, best_token)
    value, token = first_of_best(best, best_token)
    tl.store(part_value + draw * PARTS + part, value)
    tl.store(part_token + draw * PARTS + part, token)


@triton.jit
def winner_kernel(
    drawn, newest, rows, part_value, part_token, PARTS: tl.constexpr, KEPT: tl.constexpr, DEPENDENT: tl.constexpr
):
    """The token that wins over all parts of a draw. Grid: (draws,).

    drawn: [draws] int64 is written, and, if KEPT, newest: [rows] int64 at rows: [draws], any integers. part_value:
    [draws, PARTS] float32. part_token: [draws, PARTS] int32."""
    wait_for_last(DEPENDENT)
    draw = tl.program_id(0).to(tl.int64)
    part = draw * PARTS + tl.arange(0, PARTS)
    _, token = first_of_best(tl.load(part_value + part), tl.load(part_token + part))
    tl.store(drawn + draw, token.to(tl.int64))
    if KEPT:
        tl.store(newest + tl.load(rows + draw), token.to(tl.int64))


def draw_tokens(
    scores: Tensor,
    temperatures: Tensor,
    keys: Tensor,
    hashes: Tensor,
    out: Tensor | None = None,
    newest: Newest | None = None,
) -> Tensor:
    """See `octavo_kernels.draw_tokens`."""
    draws, vocab = scores.shape
    drawn = torch.empty(draws, dtype=torch.int64, device=scores.device) if out is None else out
    if draws == 0:
        return drawn
    parts = 128 if draws <= 8 else 32  # enough programs to fill a GPU
    part_value = torch.empty(draws, parts, dtype=torch.float32, device=scores.device)
    part_token = torch.empty(draws, parts, dtype=torch.int32, device=scores.device)
    launch = launch_options(scores.device)
    part_kernel[(draws, parts)](
        part_value,
        part_token,
        scores,
        temperatures,
        keys,
        hashes,
        scores.stride(0),
        vocab,
        PARTS=parts,
        PIECE=PIECE,
        num_warps=4,
        **launch,
    )
    tokens, rows = (drawn, drawn) if newest is None else newest
    winner_kernel[(draws,)](
        drawn, tokens, rows, part_value, part_token, PARTS=parts, KEPT=newest is not None, num_warps=1, **launch
    )
    return drawn
