"""How `octavo bench kernels` lets tokens choose experts."""

import pytest
import torch

from octavo_runtime.bench.kernels import CHOICES, choose


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("tokens", [1, 8, 256])
def test_a_token_chooses_different_experts(choice, tokens):
    first, second = (choose(choice, tokens, 64, 6, turn) for turn in range(2))
    assert first.is_contiguous()
    assert first.shape == (tokens, 6)
    assert all(len(set(row)) == 6 for row in first.tolist())
    assert 0 <= int(first.min()) <= int(first.max()) < 64
    assert not first.equal(second), "other ones each time"


def test_experts_get_as_many_tokens_or_all_of_them():
    _, balanced, same = CHOICES
    assert set(torch.bincount(choose(balanced, 256, 64, 6, 0).flatten()).tolist()) == {24}
    assert torch.bincount(choose(same, 256, 64, 6, 0).flatten())[:6].tolist() == [256] * 6
