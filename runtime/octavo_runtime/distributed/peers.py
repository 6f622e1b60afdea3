"""Memory of the GPUs of a machine that they write to each other."""

import os
from dataclasses import replace
from itertools import count

import torch
import torch.distributed as torch_distributed

# torch.distributed._symmetric_memory, which wraps it, takes two seconds of a start to import.
from torch._C._distributed_c10d import _SymmetricMemory as SymmetricMemory

from octavo_kernels.peer_sum import mailbox_shape, open_peers
from octavo_runtime.distributed.group import Team

_engines = count()  # that this process has made


def with_peers(team: Team, hidden: int, gpus: list[int]) -> Team:
    """The team, whose group sums rows of `hidden` numbers of 16 bits by peer access where all of its ranks may. gpus:
    the numbers of the group's GPUs on this machine. All ranks call it. Raises ValueError where the GPUs reach each
    other and the system refuses to share their memory.

    The first engine of a process alone: torch numbers the handles that a process exchanges, and ranks that start anew
    would begin with the first number."""
    group, everybody = team.group, torch_distributed.group.WORLD
    assert group is not None
    assert everybody is not None
    own, is_first = gpus[group.rank], next(_engines) == 0
    if not team.least(is_first and hidden % 2 == 0 and may_write(own, gpus)):
        return team
    shape = mailbox_shape(group.size, hidden)
    try:
        strides = torch.empty(shape, device="meta").stride()
        mailbox = SymmetricMemory.empty_strided_p2p(shape, strides, torch.int64, torch.device("cuda", own))
        addresses = SymmetricMemory.rendezvous(mailbox, (group.handle or everybody).group_name).buffer_ptrs
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"tensor_parallel_size: GPUs cannot share memory here; set NCCL_P2P_DISABLE=1 to do without ({reason})"
        ) from None
    peers = open_peers(group.rank, addresses, mailbox)
    torch.cuda.synchronize(own)
    team.least(0)  # nobody writes to a mailbox that is still to be emptied
    return replace(team, group=replace(group, peers=peers))


def may_write(own: int, gpus: list[int]) -> bool:
    """Whether a GPU reaches the others, and NCCL's variable does not forbid it."""
    is_allowed = os.environ.get("NCCL_P2P_DISABLE", "0") == "0"
    return is_allowed and all(gpu == own or torch.cuda.can_device_access_peer(own, gpu) for gpu in gpus)
