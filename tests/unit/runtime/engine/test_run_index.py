"""What followed the last tokens where they stood before, against a search through all of them."""

from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.config.speculation import Speculation
from octavo_runtime.engine.run_index import RunIndex


def index(longest: int = 3, shortest: int = 1) -> RunIndex:
    said = {"method": "ngram", "num_speculative_tokens": 4}
    return RunIndex(Speculation(**said, prompt_lookup_max=longest, prompt_lookup_min=shortest))


def searched(tokens: list[int], count: int, longest: int, shortest: int) -> list[int]:
    for length in range(min(longest, len(tokens) - 1), shortest - 1, -1):
        for end in range(len(tokens) - 1, length - 1, -1):
            if tokens[end - length : end] == tokens[len(tokens) - length :]:
                repeated = tokens[end:] * count
                return repeated[:count]
    return []


@given(
    tokens=st.lists(st.integers(0, 2), min_size=1, max_size=14),
    bounds=st.tuples(st.integers(1, 4), st.integers(1, 4)).map(sorted),
    count=st.integers(1, 5),
    chunk=st.integers(1, 4),
)
def test_the_latest_of_the_longest_runs_is_followed(tokens, bounds, count, chunk):
    shortest, longest = bounds
    runs = index(longest, shortest)
    for end in range(1, len(tokens) + 1, chunk):
        assert runs.guess(tokens[:end], count) == searched(tokens[:end], count, longest, shortest)


def test_a_run_that_reaches_to_the_end_goes_on():
    assert index().guess([7, 1, 2, 1, 2], 5) == [1, 2, 1, 2, 1]


def test_what_never_stood_before_is_not_guessed():
    assert index().guess([1, 2, 3], 4) == []
    assert index().guess([1], 4) == []


def test_few_places_of_many_are_compared():
    tokens = [9, 8, 1] + [5, 1, 6] * 40 + [9, 8, 1]
    assert index(longest=3).guess(tokens, 1) == [6], "the longest run lies too far back"


def test_a_long_prompt_is_taken_in_over_several_steps():
    runs, tokens = index(), [*range(5000), 2500]
    assert [runs.guess(tokens, 1) for _ in range(4)] == [[], [], [2501], [2501]]
