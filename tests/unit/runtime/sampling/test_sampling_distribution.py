"""What is drawn follows the exact distribution: chi-square tests against a plain reference, with fixed seeds."""

import math

import numpy as np
import pytest
import torch

from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import NewRow
from octavo_runtime.sampling.race import Race
from octavo_runtime.sampling.sampler import Draw, Sampler

LOGITS = [2.0, 1.1, 0.9, 0.2, -0.3, -0.9, -1.6, -2.4, 1.5, -0.1]
HISTORY = [8, 0, 3, 3, 1, 1, 1]
PROMPT_LEN = 3


def draw_tokens(logits, params: SamplingParams, draws: list[Draw], seed: int = 11) -> np.ndarray:
    vocab = len(logits)
    sampler = Sampler(max_rows=1, vocab_size=vocab, eos_token_ids=(), device=torch.device("cpu"))
    sampler.set_row(NewRow(0, params, HISTORY, PROMPT_LEN, seed))
    scores = torch.tensor(logits, dtype=torch.float32).expand(len(draws), vocab).clone()
    return np.array([sample.token_id for sample in sampler.sample(scores, draws, None)])


def at_positions(count: int, sample_index: int = 0) -> list[Draw]:
    return [Draw(0, position, sample_index) for position in range(count)]


def exact(logits, params: SamplingParams) -> np.ndarray:
    """The distribution [vocab] that the parameters define, in float64, a filter at a time."""
    scores = np.array(logits, dtype=np.float64)
    for token, bias in params.logit_bias.items():
        scores[token] += bias
    answer = HISTORY[PROMPT_LEN:]
    for token in set(HISTORY):
        scores[token] *= params.repetition_penalty if scores[token] <= 0 else 1 / params.repetition_penalty
    for token in set(answer):
        scores[token] -= params.frequency_penalty * answer.count(token) + params.presence_penalty
    scores = scores / params.temperature
    if 0 < params.top_k < len(scores):
        scores[scores < np.sort(scores)[-params.top_k]] = -math.inf
    probabilities = softmax(scores)
    order = np.argsort(-probabilities)
    before = np.empty_like(probabilities)
    before[order] = probabilities[order].cumsum() - probabilities[order]
    if params.top_p < 1.0:
        scores[before >= params.top_p] = -math.inf
    scores[probabilities < params.min_p * probabilities.max()] = -math.inf
    return softmax(scores)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def assert_follows(counts: np.ndarray, probabilities: np.ndarray) -> None:
    """Pearson's chi-square test; fails at four standard deviations (Wilson and Hilferty 1931), one time in 30,000."""
    assert counts[probabilities == 0].sum() == 0
    expected = counts.sum() * probabilities[probabilities > 0]
    assert expected.min() >= 5
    freedom = len(expected) - 1
    if freedom == 0:
        return
    statistic = ((counts[probabilities > 0] - expected) ** 2 / expected).sum()
    deviations = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    assert deviations < 4


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 3.0},
        {"top_k": 1},
        {"top_k": 3},
        {"top_k": 10},
        {"top_k": -1},
        {"top_p": 0.2},
        {"top_p": 0.7},
        {"top_p": 0.95},
        {"min_p": 0.1},
        {"min_p": 0.5},
        {"top_k": 5, "top_p": 0.8},
        {"top_k": 4, "min_p": 0.3},
        {"top_p": 0.9, "min_p": 0.15},
        {"top_k": 7, "top_p": 0.93, "min_p": 0.08, "temperature": 1.5},
        {"logit_bias": {7: 3.0, 0: -1.5}},
        {"repetition_penalty": 1.8},
        {"frequency_penalty": 0.4},
        {"presence_penalty": 1.2},
        {"presence_penalty": -0.5, "frequency_penalty": 0.3, "repetition_penalty": 0.8},
        {"repetition_penalty": 1.3, "logit_bias": {3: 2.0}, "temperature": 0.8, "top_k": 6, "top_p": 0.9},
    ],
    ids=str,
)
def test_every_filter_leaves_its_exact_distribution(params):
    params = SamplingParams(**params)
    drawn = draw_tokens(LOGITS, params, at_positions(20_000))
    assert_follows(np.bincount(drawn, minlength=len(LOGITS)), exact(LOGITS, params))


@pytest.mark.parametrize("params", [{}, {"temperature": 0.8, "top_p": 0.95}, {"top_k": 50}], ids=str)
def test_a_large_vocabulary_with_a_long_tail(params):
    logits = 2.5 * torch.randn(16_000, generator=torch.Generator().manual_seed(3)).numpy()
    logits[:20] += 8.0
    params = SamplingParams(**params)
    drawn = draw_tokens(logits, params, at_positions(2000))
    probabilities = exact(logits, params)
    assert (probabilities[drawn] > 0).all()
    # Twenty bins of about equal weight, in the order of the ids.
    bins = np.minimum((probabilities.cumsum() - probabilities) * 20, 19).astype(int)
    weights = np.bincount(bins, weights=probabilities, minlength=20)
    assert_follows(np.bincount(bins[drawn], minlength=20)[weights > 0], weights[weights > 0])


def test_a_flat_distribution_favours_no_id():
    """Coarse random numbers would tie among the luckiest tokens, and ties go to the lowest id."""
    drawn = draw_tokens(np.zeros(20_000), SamplingParams(), at_positions(2000))
    assert_follows(np.bincount(drawn // 1000, minlength=20), np.full(20, 1 / 20))
    assert len(set(drawn.tolist())) > 1850


def test_the_shortest_times_of_a_race_are_told_apart():
    times = Race(1000, torch.device("cpu")).negative_times(torch.arange(4096, dtype=torch.int32)).neg()
    assert (times > 0).all()
    assert times.mean().item() == pytest.approx(1.0, abs=4 / 2048)  # the mean of four million: 1 / 2048 apart
    shortest = times.flatten().sort().values[:1000]
    assert len(shortest.unique()) > 990  # numbers of 24 bits would hold some 900 different ones


def test_keys_that_differ_in_one_bit_race_independently():
    keys = torch.tensor([123456789, *(123456789 ^ 1 << bit for bit in range(31))], dtype=torch.int32)
    times = Race(2**16, torch.device("cpu")).negative_times(keys)
    correlations = torch.corrcoef(times)[0, 1:]
    assert correlations.abs().max() < 5 / 2**8  # five standard deviations


def test_unlikely_tokens_keep_their_share():
    """A tail of one in a thousand, in a thousand tokens of one in a million each."""
    logits = np.concatenate([[0.0], np.full(1000, math.log(1e-6))])
    drawn = draw_tokens(logits, SamplingParams(), at_positions(50_000))
    share = 1000 * 1e-6 / (1 + 1000 * 1e-6)
    assert_follows(np.bincount(drawn > 0, minlength=2), np.array([1 - share, share]))


@pytest.mark.parametrize("params", [{}, {"top_k": 4, "top_p": 0.9}], ids=str)
@pytest.mark.parametrize("apart", ["sample_index", "position", "seed"])
def test_neighbouring_draws_are_independent(apart, params):
    params = SamplingParams(**params)
    count = 20_000
    first = draw_tokens(LOGITS, params, at_positions(count))
    second = {
        "sample_index": lambda: draw_tokens(LOGITS, params, at_positions(count, sample_index=1)),
        "position": lambda: draw_tokens(LOGITS, params, [Draw(0, p + 1, 0) for p in range(count)]),
        "seed": lambda: draw_tokens(LOGITS, params, at_positions(count), seed=12),
    }[apart]()
    likely = np.where(exact(LOGITS, params) > 0.05, np.arange(len(LOGITS)), -1)  # the others are one class
    classes = np.unique(likely)
    weights = np.array([exact(LOGITS, params)[likely == c].sum() for c in classes])
    kept = weights > 0
    one, two = (np.searchsorted(classes, likely[drawn]) for drawn in (first, second))
    pairs = np.bincount(one * len(classes) + two, minlength=len(classes) ** 2).reshape(len(classes), -1)
    assert_follows(pairs[kept][:, kept].ravel(), np.outer(weights, weights)[kept][:, kept].ravel())


def test_answers_of_one_prompt_follow_the_distribution():
    """n > 1: one position, many sample indices; and many seeds at one position."""
    params = SamplingParams()
    drawn = draw_tokens(LOGITS, params, [Draw(0, 7, index) for index in range(20_000)])
    assert_follows(np.bincount(drawn, minlength=len(LOGITS)), exact(LOGITS, params))
