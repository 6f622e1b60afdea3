"""The tokens of the highest and of the lowest scores: torch's own, whatever the scores are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.sampling.extremes import argmax, argmin

SCORES = st.sampled_from([-torch.inf, -1.5, -0.0, 0.0, 2.0, torch.inf, torch.nan])


@given(st.integers(1, 70).flatmap(lambda width: st.lists(st.lists(SCORES, min_size=width, max_size=width), min_size=1)))
def test_the_first_of_equals_is_found(rows):
    scores = torch.tensor(rows)
    assert argmax(scores).equal(scores.argmax(dim=-1))
    assert argmin(scores).equal(scores.argmin(dim=-1))


@pytest.mark.parametrize("find", [argmax, argmin])
def test_rows_may_lie_apart(find):
    whole = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    assert find(whole[1::2, :257]).equal(find(whole[1::2, :257].clone()))
