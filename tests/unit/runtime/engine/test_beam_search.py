"""Beam search against an exhaustive search over a tiny vocabulary."""

import math
from itertools import product

import pytest

from octavo_runtime.engine.beam_search import BeamSearch
from octavo_runtime.protocol.step import TokenLogprobs
from octavo_runtime.sampling.sampler import num_candidates

VOCAB, END = 4, 3


def log_probs(answer: tuple[int, ...]) -> list[float]:
    """A made-up model: scores of the next token after an answer."""
    scores = [
        math.sin(7.3 * sum((token + 2) * 3**place for place, token in enumerate(answer)) + 2.1 * token)
        for token in range(VOCAB)
    ]
    total = math.log(sum(map(math.exp, scores)))
    return [score - total for score in scores]


def top(answer: tuple[int, ...], count: int) -> TokenLogprobs:
    scores = log_probs(answer)
    ranked = sorted(range(VOCAB), key=lambda token: -scores[token])[:count]
    return TokenLogprobs([ranked[0], *ranked], [scores[token] for token in [ranked[0], *ranked]], [])


def search(width: int, length: int, penalty: float = 1.0, *, early: bool = False) -> BeamSearch:
    beams, sums = [()], [0.0]
    running = BeamSearch(width, penalty, early)
    for step in range(length):
        chosen = running.advance(
            [list(beam) for beam in beams],
            sums,
            [top(beam, num_candidates(width, 1)) for beam in beams],
            lambda token: token == END,
            is_last=step + 1 == length,
        )
        beams, sums = [(*beams[one.beam], one.token_id) for one in chosen], [one.log_prob for one in chosen]
        if running.done:
            break
    assert running.done
    return running


def exhaustive(length: int, penalty: float) -> tuple[list[int], float]:
    """The best of all answers that end with END or at the length."""
    best = ([], -math.inf)
    for size in range(1, length + 1):
        for answer in product(range(VOCAB), repeat=size):
            if END in answer[:-1] or (size < length and answer[-1] != END):
                continue
            score = sum(log_probs(answer[:place])[token] for place, token in enumerate(answer)) / size**penalty
            best = max(best, (list(answer), score), key=lambda one: one[1])
    return best


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_search_finds_the_best_answer(penalty):
    found = search(width=64, length=4, penalty=penalty).finished[0]
    tokens, score = exhaustive(4, penalty)
    assert found.token_ids == tokens
    assert found.score == pytest.approx(score)


def test_width_one_is_greedy():
    found = search(width=1, length=5).finished[0].token_ids
    answer: tuple[int, ...] = ()
    while len(answer) < len(found):
        scores = log_probs(answer)
        answer = (*answer, max(range(VOCAB), key=scores.__getitem__))
    assert found == list(answer)


def test_finished_answers_are_sorted_and_as_many_as_the_width():
    finished = search(width=3, length=6).finished
    assert len(finished) == 3
    assert [one.score for one in finished] == sorted((one.score for one in finished), reverse=True)
    assert all(one.stopped == (one.token_ids[-1] == END) for one in finished)


def test_early_stopping_ends_with_the_first_full_set():
    patient, early = search(width=2, length=8), search(width=2, length=8, early=True)
    assert max(len(one.token_ids) for one in early.finished) <= max(len(one.token_ids) for one in patient.finished)


def test_candidates_leave_enough_beams_where_every_end_token_is_likely():
    assert num_candidates(4, 0) == 8
    assert num_candidates(4, 3) == 16
