"""peer_sum and peer_sum_add_rms_norm in Triton. Rows are read and written as words of 32 bits, each two numbers of 16.

A program sends all its rows before it waits for the first. There are no more programs than fit on the GPU at once: none
waits for one of another GPU that waits in turn for room."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import torch
import triton
import triton.language as tl
from torch import Tensor

from octavo_kernels.dependent_launch import launch_options, wait_for_last
from octavo_kernels.gpu import gpu
from octavo_kernels.peer_sum import Peers
from octavo_kernels.rms_norm.triton import scale


@triton.jit
def low(words, TYPE: tl.constexpr):
    """The first of the two numbers of each word int32, as float32. TYPE: theirs."""
    return (words & 0xFFFF).to(tl.uint16).to(TYPE, bitcast=True).to(tl.float32)


@triton.jit
def high(words, TYPE: tl.constexpr):
    """The second one."""
    return ((words >> 16) & 0xFFFF).to(tl.uint16).to(TYPE, bitcast=True).to(tl.float32)


@triton.jit
def words_of(low, high, TYPE: tl.constexpr):
    """Words int32 of two numbers each, rounded to TYPE."""
    first = low.to(TYPE).to(tl.uint16, bitcast=True).to(tl.int32)
    return first | (high.to(TYPE).to(tl.uint16, bitcast=True).to(tl.int32) << 16)


@triton.jit
def send(words, turn, row, addresses, word, mask, RANK: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, WORDS):
    """Leaves a row's words [n] int32 in all other GPUs' mailboxes."""
    messages = (words.to(tl.int64) & 0xFFFFFFFF) | (turn.to(tl.int64) << 32)
    place = (((turn & 1) * SIZE + RANK) * ROWS + row) * WORDS
    for peer in tl.static_range(SIZE):
        if peer != RANK:
            box = tl.load(addresses + peer).to(tl.pointer_type(tl.int64))
            tl.store(box + place + word, messages, mask=mask)


@triton.jit
def receive(sender, turn, row, mailbox, word, mask, SIZE: tl.constexpr, ROWS: tl.constexpr, WORDS):
    """The words [n] int32 of a row that another GPU sends this turn, once all are there."""
    expected = turn.to(tl.int64)
    box = mailbox + (((turn & 1) * SIZE + sender) * ROWS + row) * WORDS
    messages = tl.load(box + word, mask=mask, other=expected << 32, volatile=True)
    while tl.max((messages >> 32 != expected).to(tl.int32), 0) > 0:
        messages = tl.load(box + word, mask=mask, other=expected << 32, volatile=True)
    return messages.to(tl.int32)


@triton.jit
def summed(
    own, turn, row, mailbox, word, mask, TYPE: tl.constexpr, RANK: tl.constexpr, SIZE: tl.constexpr,
    ROWS: tl.constexpr, WORDS,
):  # fmt: skip
    """The sum of all GPUs' words of a row as (first, second) numbers, float32 that is rounded to TYPE."""
    first = tl.zeros_like(own).to(tl.float32)
    second = first
    for sender in tl.static_range(SIZE):
        words = own
        if sender != RANK:
            words = receive(sender, turn, row, mailbox, word, mask, SIZE, ROWS, WORDS)
        first += low(words, TYPE)
        second += high(words, TYPE)
    return first.to(TYPE).to(tl.float32), second.to(TYPE).to(tl.float32)


@triton.jit
def peer_sum_kernel(
    x,
    addresses,
    mailbox,
    turns,
    rows,
    stride,
    WORDS,
    PADDED: tl.constexpr,
    TYPE: tl.constexpr,
    RANK: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """x = the sum of all GPUs' x. Grid: up to `rows` programs, each for every so many-th row.

    x: [rows, WORDS] int32, stride of its rows in words. PADDED: WORDS, up to a power of two. The rest: see Peers."""
    word = tl.arange(0, PADDED)
    mask = word < WORDS
    wait_for_last(DEPENDENT)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        own = tl.load(x + row * stride + word, mask=mask, other=0)
        send(own, tl.load(turns + row) + 1, row, addresses, word, mask, RANK, SIZE, ROWS, WORDS)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        turn = tl.load(turns + row) + 1
        place = x + row * stride + word
        own = tl.load(place, mask=mask, other=0)
        first, second = summed(own, turn, row, mailbox, word, mask, TYPE, RANK, SIZE, ROWS, WORDS)
        tl.store(place, words_of(first, second, TYPE), mask=mask)
        tl.store(turns + row, turn)


@triton.jit
def peer_sum_add_rms_norm_kernel(
    normed,
    stream,
    x,
    weight,
    addresses,
    mailbox,
    turns,
    rows,
    eps,
    multiplier,
    stride_stream,
    stride_x,
    WORDS,
    PADDED: tl.constexpr,
    TYPE: tl.constexpr,
    OFFSET: tl.constexpr,
    RANK: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """stream += multiplier * the sum of all GPUs' x; normed = stream / sqrt(mean(stream ** 2) + eps) *
    (OFFSET + weight), in float32 from the rounded stream. Grid and the rest: see peer_sum_kernel.

    normed: [rows, WORDS] int32, contiguous; stream, x: [rows, WORDS] int32, strides of their rows in words; weight:
    [WORDS] int32."""
    word = tl.arange(0, PADDED)
    mask = word < WORDS
    scales = tl.load(weight + word, mask=mask, other=0)
    wait_for_last(DEPENDENT)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        own = tl.load(x + row * stride_x + word, mask=mask, other=0)
        send(own, tl.load(turns + row) + 1, row, addresses, word, mask, RANK, SIZE, ROWS, WORDS)
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        turn = tl.load(turns + row) + 1
        own = tl.load(x + row * stride_x + word, mask=mask, other=0)
        place = stream + row * stride_stream + word
        before = tl.load(place, mask=mask, other=0)
        first, second = summed(own, turn, row, mailbox, word, mask, TYPE, RANK, SIZE, ROWS, WORDS)
        after = words_of(first * multiplier + low(before, TYPE), second * multiplier + high(before, TYPE), TYPE)
        tl.store(place, after, mask=mask)
        first, second = low(after, TYPE), high(after, TYPE)
        inverse = tl.rsqrt(tl.sum(first * first + second * second, 0) / (2 * WORDS) + eps)
        first = scale(first * inverse, low(scales, TYPE).to(TYPE), OFFSET)
        second = scale(second * inverse, high(scales, TYPE).to(TYPE), OFFSET)
        tl.store(normed + row * WORDS + word, words_of(first, second, TYPE), mask=mask)
        tl.store(turns + row, turn)


_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def peer_sum(x: Tensor, peers: Peers) -> Tensor:
    """See `octavo_kernels.peer_sum`."""
    if len(x):
        words = x.view(torch.int32)
        peer_sum_kernel[_grid(x)](
            words, *peers[1:], len(x), words.stride(0), words.shape[1], TYPE=_TYPES[x.dtype], **_options(words, peers)
        )
    return x


def peer_sum_add_rms_norm(
    x: Tensor, stream: Tensor, weight: Tensor, eps: float, peers: Peers, multiplier: float = 1.0, offset: float = 0.0
) -> Tensor:
    """See `octavo_kernels.peer_sum`."""
    normed = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if len(x):
        words, residual = x.view(torch.int32), stream.view(torch.int32)
        peer_sum_add_rms_norm_kernel[_grid(x)](
            normed.view(torch.int32), residual, words, weight.view(torch.int32), *peers[1:], len(x), eps, multiplier,
            residual.stride(0), words.stride(0), words.shape[1], TYPE=_TYPES[x.dtype], OFFSET=offset,
            **_options(words, peers),
        )  # fmt: skip
    return normed


def _grid(x: Tensor) -> tuple[int]:
    return (min(len(x), gpu(x.device).processors),)


def _options(words: Tensor, peers: Peers) -> dict[str, object]:
    padded = triton.next_power_of_2(words.shape[1])
    return {
        "PADDED": padded,
        "RANK": peers.rank,
        "SIZE": peers.size,
        "ROWS": peers.mailbox.shape[2],
        "num_warps": min(16, max(1, padded // 128)),  # four words a thread
        **launch_options(words.device),
    }
