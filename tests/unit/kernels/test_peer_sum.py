"""peer_sum and peer_sum_add_rms_norm against the oracle, on one GPU; on two: runtime/worker/test_gpu_ranks.py."""

import pytest
import torch

from octavo_kernels.peer_sum import fits, mailbox_shape, open_peers
from octavo_kernels.peer_sum.cases import CASES, TINY_CASES, TOLERANCES, Case, error


@pytest.mark.parametrize("case", TINY_CASES, ids=lambda case: case.name)
def test_interpreted(case: Case, interpreted_errors: dict[str, float]) -> None:
    assert interpreted_errors[f"peer_sum/{case.name}"] <= TOLERANCES[torch.float16]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_triton(case: Case, dtype: torch.dtype) -> None:
    assert error(case, dtype, "cuda") <= TOLERANCES[dtype]


def test_what_it_fits() -> None:
    peers = open_peers(0, [0, 0], torch.ones(mailbox_shape(2, 64), dtype=torch.int64))
    assert not peers.mailbox.any()
    assert fits(torch.empty(512, 64, dtype=torch.bfloat16), peers)
    assert not fits(torch.empty(513, 64, dtype=torch.bfloat16), peers)
    assert not fits(torch.empty(2, 64), peers)
    assert not fits(torch.empty(2, 48, dtype=torch.bfloat16), peers)
