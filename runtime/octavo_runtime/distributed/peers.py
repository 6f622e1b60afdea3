"""Memory of the GPUs of a machine that they write to each other."""

import os
import uuid
from dataclasses import replace

import torch
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed import _symmetric_memory as symmetric_memory
from torch.distributed.distributed_c10d import GroupName

from octavo_kernels.peer_sum import mailbox_shape, open_peers
from octavo_runtime.distributed.group import Team


def with_peers(team: Team, hidden: int, gpus: list[int]) -> Team:
    """The team, whose group sums rows of `hidden` numbers by peer access where its GPUs have it, unless NCCL's variable
    NCCL_P2P_DISABLE forbids it. gpus: the numbers of the group's GPUs on this machine. All ranks call it."""
    group = team.group
    assert group is not None
    own = gpus[group.rank]
    reaches = all(gpu == own or torch.cuda.can_device_access_peer(own, gpu) for gpu in gpus)
    may = os.environ.get("NCCL_P2P_DISABLE", "0") == "0" and hidden % 2 == 0
    if not team.least(reaches and may):
        return team
    shape = mailbox_shape(group.size, hidden)
    mailbox = symmetric_memory.empty(*shape, dtype=torch.int64, device=torch.device("cuda", own))
    addresses = symmetric_memory.rendezvous(mailbox, meeting(team)).buffer_ptrs
    peers = open_peers(group.rank, addresses, mailbox)
    torch.cuda.synchronize(own)
    team.least(0)  # nobody writes to a mailbox that is still to be emptied
    return replace(team, group=replace(group, peers=peers))


def meeting(team: Team) -> GroupName:
    """A name under which the ranks of a group exchange handles. torch remembers names, and their stores, for as long as
    the process lives, which may make one engine after another: so it is a new one."""
    group, key = team.group, f"peers of stage {team.mesh.stage_of(team.rank)}"
    assert group is not None
    if group.rank == 0:
        team.store.set(key, uuid.uuid4().hex)
    name = team.store.get(key).decode()
    torch._C._distributed_c10d._SymmetricMemory.set_group_info(
        name, group.rank, group.size, PrefixStore(name, team.store)
    )
    return GroupName(name)
