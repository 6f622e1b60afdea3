"""Memory of the GPUs of a machine that they write to each other."""

import os
from dataclasses import replace

import torch
import torch.distributed as torch_distributed
from torch.distributed import _symmetric_memory as symmetric_memory

from octavo_kernels.peer_sum import mailbox_shape, open_peers
from octavo_runtime.distributed.group import Team


def with_peers(team: Team, hidden: int, gpus: list[int]) -> Team:
    """The team, whose group sums rows of `hidden` numbers by peer access where its GPUs have it, unless NCCL's variable
    NCCL_P2P_DISABLE forbids it. gpus: the numbers of the group's GPUs on this machine. All ranks call it."""
    group, everybody = team.group, torch_distributed.group.WORLD
    assert group is not None
    assert everybody is not None
    own = gpus[group.rank]
    reaches = all(gpu == own or torch.cuda.can_device_access_peer(own, gpu) for gpu in gpus)
    may = os.environ.get("NCCL_P2P_DISABLE", "0") == "0" and hidden % 2 == 0
    if not team.least(reaches and may):
        return team
    shape = mailbox_shape(group.size, hidden)
    mailbox = symmetric_memory.empty(*shape, dtype=torch.int64, device=torch.device("cuda", own))
    memory = symmetric_memory.rendezvous(mailbox, group.handle or everybody)
    peers = open_peers(group.rank, memory.buffer_ptrs, mailbox)
    torch.cuda.synchronize(own)
    team.least(0)  # nobody writes to a mailbox that is still to be emptied
    return replace(team, group=replace(group, peers=peers))
