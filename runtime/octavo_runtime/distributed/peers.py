"""Memory of the GPUs of a machine that they write to each other."""

import os
from dataclasses import replace
from itertools import count

import torch
import torch.distributed as torch_distributed
from torch.distributed import _symmetric_memory as symmetric_memory

from octavo_kernels.peer_sum import mailbox_shape, open_peers
from octavo_runtime.distributed.group import Team

_engines = count()


def with_peers(team: Team, hidden: int, gpus: list[int]) -> Team:
    """The team, whose group sums rows of `hidden` numbers by peer access where all of its ranks may. gpus: the numbers
    of the group's GPUs on this machine. All ranks call it."""
    group, everybody = team.group, torch_distributed.group.WORLD
    assert group is not None
    assert everybody is not None
    own = gpus[group.rank]
    if not team.least(may_write(own, gpus) and hidden % 2 == 0):
        return team
    shape = mailbox_shape(group.size, hidden)
    mailbox = symmetric_memory.empty(*shape, dtype=torch.int64, device=torch.device("cuda", own))
    addresses = symmetric_memory.rendezvous(mailbox, group.handle or everybody).buffer_ptrs
    peers = open_peers(group.rank, addresses, mailbox)
    torch.cuda.synchronize(own)
    team.least(0)  # nobody writes to a mailbox that is still to be emptied
    return replace(team, group=replace(group, peers=peers))


def may_write(own: int, gpus: list[int]) -> bool:
    """Whether a GPU reaches the others, NCCL's variable does not forbid it, and no engine of this process asked before:
    torch numbers the handles that a process exchanges, and ranks that start anew would begin with the first number."""
    is_first = next(_engines) == 0
    is_allowed = os.environ.get("NCCL_P2P_DISABLE", "0") == "0"
    return is_first and is_allowed and all(gpu == own or torch.cuda.can_device_access_peer(own, gpu) for gpu in gpus)
