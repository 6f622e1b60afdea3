import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_runtime.sampler import SamplingRow, sample


def row(**changes) -> SamplingRow:
    values = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "seed": 1, "position": 1} | changes
    return SamplingRow(**values)


def draw(logits: torch.Tensor, count: int, **changes) -> torch.Tensor:
    """`count` draws of one distribution, at successive positions."""
    rows = [row(position=position, **changes) for position in range(count)]
    return sample(logits.expand(count, -1), rows)


def test_temperature_zero_takes_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert sample(logits, [row(temperature=0.0), row(temperature=0.0)]).tolist() == [1, 0]


def test_frequencies_follow_the_distribution():
    probabilities = torch.tensor([0.5, 0.25, 0.15, 0.1])
    drawn = draw(probabilities.log()[None], 20_000)
    frequencies = torch.bincount(drawn, minlength=4) / 20_000
    # five standard deviations of the largest cell
    assert (frequencies - probabilities).abs().max() < 5 * (0.25 / 20_000) ** 0.5


def test_temperature_sharpens():
    probabilities = torch.tensor([0.6, 0.4])
    drawn = draw(probabilities.log()[None], 20_000, temperature=0.5)
    expected = 0.36 / (0.36 + 0.16)
    assert (drawn == 0).float().mean().item() == pytest.approx(expected, abs=5 * (0.25 / 20_000) ** 0.5)


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": -1}, {0, 1, 2, 3}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"min_p": 0.4}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.8}, {0, 1}),
    ],
)
def test_restrictions_keep_exactly_their_tokens(changes, kept):
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    assert set(draw(logits, 2000, **changes).tolist()) == kept


def test_rows_of_one_batch_do_not_mix():
    logits = torch.randn(4, 5000, generator=torch.Generator().manual_seed(0))
    rows = [row(top_k=1), row(top_p=0.3, seed=2), row(temperature=0.0), row(min_p=0.2, seed=4)]
    together = sample(logits, rows)
    alone = [sample(logits[index : index + 1], [one]).item() for index, one in enumerate(rows)]
    assert together.tolist() == alone
    assert together[0] == logits[0].argmax()


def test_a_flat_distribution_needs_the_whole_vocabulary_for_top_p():
    drawn = draw(torch.zeros(1, 5000), 3000, top_p=0.999)
    assert len(set(drawn.tolist())) > 2000


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(-(2**63), 2**63 - 1), position=st.integers(1, 10**6))
def test_seed_and_position_alone_decide(seed, position):
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(1))
    again = [sample(logits, [row(seed=seed, position=position)]).item() for _ in range(2)]
    assert again[0] == again[1]
    assert len(set(draw(logits, 50, seed=seed).tolist())) > 5
