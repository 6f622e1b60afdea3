"""Which GPUs may write to each other's memory; that they sum right: worker/test_gpu_ranks.py."""

import math

import pytest
import torch

from octavo_kernels.peer_sum import mailbox_shape
from octavo_runtime.distributed import peers
from octavo_runtime.planning.reserves import mailbox_bytes


@pytest.fixture(autouse=True)
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which the first and the last do not reach each other."""
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda own, gpu: {own, gpu} != {0, 2})
    monkeypatch.delenv("NCCL_P2P_DISABLE", raising=False)


def test_gpus_must_reach_each_other() -> None:
    assert peers.may_write(0, [0, 1])
    assert not peers.may_write(0, [0, 1, 2])


def test_nccls_variable_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    assert not peers.may_write(0, [0, 1])


@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_plan_counts_mailboxes(size: int) -> None:
    assert mailbox_bytes(4096) == math.prod(mailbox_shape(size, 4096)) * 8
