"""What GPUs that write to each other's memory need to meet; that they sum right: worker/test_gpu_ranks.py."""

import math

import pytest
from torch.distributed import TCPStore

from octavo_kernels.peer_sum import mailbox_shape
from octavo_runtime.distributed.group import Group, Team
from octavo_runtime.distributed.mesh import Mesh
from octavo_runtime.distributed.peers import meeting
from octavo_runtime.planning.memory import mailbox_bytes


def test_each_engine_of_a_process_meets_under_a_name_of_its_own() -> None:
    names = []
    for _ in range(2):
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        names += [meeting(Team(Mesh(2), 0, Group(0, 2), store)), store.get("peers of stage 0").decode()]
    assert names[0] == names[1]
    assert names[2] == names[3]
    assert names[0] != names[2]


@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_plan_counts_mailboxes(size: int) -> None:
    assert mailbox_bytes(4096) == math.prod(mailbox_shape(size, 4096)) * 8
