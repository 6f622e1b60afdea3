"""The cases that peer_sum and peer_sum_add_rms_norm are checked on: one GPU is real, and what the others say is there
already."""

from dataclasses import dataclass

import torch
from torch import Tensor

from octavo_kernels.comparison import largest_error
from octavo_kernels.peer_sum import Peers, mailbox_shape, open_peers, reference, triton
from octavo_kernels.rms_norm.cases import EPS, TOLERANCES

__all__ = ["CASES", "TINY_CASES", "TOLERANCES", "Case", "error"]

TURNS = 3


@dataclass(frozen=True)
class Case:
    name: str
    size: int
    rank: int
    tokens: int
    hidden: int
    multiplier: float = 1.0
    offset: float = 0.0


TINY_CASES = (
    Case("one token, the first of two", 2, 0, 1, 32),
    Case("padded rows, the second of two", 2, 1, 3, 48),
    Case("the third of four", 4, 2, 2, 16, multiplier=0.22),
    Case("offset", 2, 0, 2, 32, offset=1.0),
)
CASES = (
    *TINY_CASES,
    Case("8B shape, one token", 2, 1, 1, 4096),
    Case("8B shape, as many tokens as there is room for", 2, 0, 512, 4096),
    Case("70B shape, eight", 8, 7, 128, 8192),
    Case("Gemma 2 shape", 4, 0, 5, 2304, offset=1.0),
    Case("no token", 2, 0, 0, 64),
)


def error(case: Case, dtype: torch.dtype, device: str) -> float:
    """Largest error of both against the oracle over some turns, the sum's of its type's units; infinite where another
    GPU is told anything but what this one brings."""
    generator = torch.Generator().manual_seed(0)
    shape = mailbox_shape(case.size, case.hidden)
    boxes = torch.zeros(case.size, *shape, dtype=torch.int64, device=device)
    peers = open_peers(case.rank, [box.data_ptr() for box in boxes], boxes[case.rank])
    weight = torch.randn(case.hidden, generator=generator).to(device, dtype)
    worst = 0.0
    for turn in range(1, TURNS + 1):
        # Every second row of a tensor: a row's stride is not its length.
        brought = torch.randn(case.size, case.tokens, 2, case.hidden, generator=generator).to(device, dtype)[:, :, 0]
        stream = torch.randn(case.tokens, case.hidden, generator=generator).to(device, dtype)
        for sender in range(case.size):
            if sender != case.rank:
                _message(boxes[case.rank], turn, sender, case.tokens).copy_(_messages(brought[sender], turn))
        own = brought[case.rank]
        if turn % 2:
            expected = reference.peer_sum_add_rms_norm([*brought], stream, weight, EPS, case.multiplier, case.offset)
            found = triton.peer_sum_add_rms_norm(own, stream, weight, EPS, peers, case.multiplier, case.offset)
            worst = max(worst, largest_error(found, expected[0]), largest_error(stream, expected[1]))
        else:
            total, sent = reference.peer_sum([*brought]), own.clone()
            worst = max(worst, largest_error(triton.peer_sum(own, peers), total))
            own = sent
        if not _all_told(boxes, peers, own, turn):
            worst = torch.inf
    return worst


def _all_told(boxes: Tensor, peers: Peers, own: Tensor, turn: int) -> bool:
    others = [box for rank, box in enumerate(boxes) if rank != peers.rank]
    told = (_message(box, turn, peers.rank, len(own)) for box in others)
    return all(torch.equal(message, _messages(own, turn)) for message in told)


def _message(box: Tensor, turn: int, sender: int, tokens: int) -> Tensor:
    return box[turn % 2, sender, :tokens]


def _messages(rows: Tensor, turn: int) -> Tensor:
    return (rows.contiguous().view(torch.int32).long() & 0xFFFFFFFF) | (turn << 32)
