"""Sums over the GPUs of one machine, each of which writes what it brings into the memory of all others."""

from typing import NamedTuple

import torch
from torch import Tensor


class Peers(NamedTuple):
    """The GPUs that sum, of which this process has the one at `rank`, and where they leave each other messages.

    A message is one word of a row, which is two of its numbers, with the turn in front: 64 bits that arrive as a whole.
    So nobody needs to say that a row is there, and a message that is overwritten is one of the turn before the last,
    which all have read: who sends in a turn has had everybody's messages of the last one.

    addresses: [size] int64, of each GPU's mailbox, by which this one writes to it.
    mailbox: [2, size, rows, words] int64, this GPU's own: by parity of the turn, sender, and row.
    turns: [rows] int32, how many sums of each row there have been; the same on all GPUs. All start with zeros.
    """

    rank: int
    addresses: Tensor
    mailbox: Tensor
    turns: Tensor

    @property
    def size(self) -> int:
        return len(self.addresses)


def mailbox_shape(size: int, hidden: int) -> tuple[int, int, int, int]:
    """Of a GPU's mailbox [2, size, rows, words], for rows of `hidden` numbers of 16 bits. With more rows than it has
    room for, NCCL's ways, which send each number once or twice whatever the number of GPUs, are faster."""
    return 2, size, 1024 // size, hidden // 2


def fits(x: Tensor, peers: Peers) -> bool:
    """Whether there is a form for x [tokens, hidden]: in 16 bits, on a GPU, and with room in the mailbox."""
    rows, words = peers.mailbox.shape[2:]
    return x.itemsize == 2 and len(x) <= rows and x.shape[1] == 2 * words and x.stride(1) == 1 and x.stride(0) % 2 == 0


def peer_sum(x: Tensor, peers: Peers) -> Tensor:
    """The sum of all GPUs' x [tokens, hidden], in x itself, where `fits` says so. All call it with the same shape.
    Summed in float32 in the order of the GPUs, so that all have the same numbers."""
    from octavo_kernels.peer_sum import triton

    return triton.peer_sum(x, peers)


def peer_sum_add_rms_norm(
    x: Tensor,
    stream: Tensor,
    weight: Tensor,
    eps: float,
    peers: Peers,
    multiplier: float = 1.0,
    offset: float = 0.0,
) -> Tensor:
    """add_rms_norm of peer_sum(x), added to the residual stream [tokens, hidden] in place; the normalised sum [tokens,
    hidden]. Both tensors and weight [hidden] are of one type; x stays as it is. See the two."""
    from octavo_kernels.peer_sum import triton

    return triton.peer_sum_add_rms_norm(x, stream, weight, eps, peers, multiplier, offset)


def open_peers(rank: int, addresses: list[int], mailbox: Tensor) -> Peers:
    """The peers that have mailboxes at these addresses, of which one is this GPU's own, which is emptied."""
    mailbox.zero_()
    turns = torch.zeros(mailbox.shape[2], dtype=torch.int32, device=mailbox.device)
    return Peers(rank, torch.tensor(addresses, dtype=torch.int64, device=mailbox.device), mailbox, turns)
