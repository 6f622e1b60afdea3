"""What `octavo why` proposes is within the bounds of its field, and fits the other fields."""

from typing import Any

import built
import pytest

from octavo_operator import api
from octavo_operator.commands import levers
from octavo_runtime.planning.limits import token_budget

GUESSING = '{"method": "ngram", "num_speculative_tokens": 4}'


def service(*, on: str = "nvidia", **engine: Any) -> api.LLMService:
    return built.service(accelerator={"type": on}, engine=engine)


@pytest.mark.parametrize(
    ("engine", "change"),
    [
        ({}, {"engine": {"maxNumBatchedTokens": 4224}}),
        ({"maxNumBatchedTokens": 1000, "maxNumSeqs": 768}, {"engine": {"maxNumBatchedTokens": 768}}),
        ({"maxNumBatchedTokens": 512, "maxNumSeqs": 512}, {}),
        ({"maxNumBatchedTokens": 100, "maxNumSeqs": 8}, {"engine": {"maxNumBatchedTokens": 64}}),
        ({"maxNumBatchedTokens": 64, "maxNumSeqs": 8}, {}),
    ],
)
def test_shorter_steps_still_have_a_token_of_each_sequence(engine: Any, change: levers.Change) -> None:
    assert levers.shorter_steps(service(**engine)) == change


@pytest.mark.parametrize(
    ("engine", "change"),
    [
        ({"maxNumSeqs": 5}, {"engine": {"maxNumSeqs": 2}}),
        ({"maxNumSeqs": 2}, {"engine": {"maxNumSeqs": 1}}),
        ({"maxNumSeqs": 1}, {}),
        ({"maxNumSeqs": 3, "speculativeConfig": GUESSING}, {"engine": {"maxNumSeqs": 2}}),
        ({"maxNumSeqs": 2, "speculativeConfig": GUESSING}, {}),
    ],
)
def test_fewer_sequences_leave_room_for_guesses(engine: Any, change: levers.Change) -> None:
    assert levers.fewer_sequences(service(**engine)) == change


@pytest.mark.parametrize(
    ("engine", "change"),
    [
        ({"maxNumSeqs": 256}, {"engine": {"maxNumSeqs": 512}}),
        ({"maxNumSeqs": 3000}, {"engine": {"maxNumSeqs": 4096}}),
        ({"maxNumSeqs": 4096}, {}),
        ({"maxNumSeqs": 256, "maxNumBatchedTokens": 300}, {"engine": {"maxNumSeqs": 300}}),
        ({"maxNumSeqs": 256, "maxNumBatchedTokens": 256}, {}),
    ],
)
def test_more_sequences_have_a_token_each_in_a_step(engine: Any, change: levers.Change) -> None:
    assert levers.more_sequences(service(**engine)) == change


def test_a_step_has_a_token_of_each_sequence_where_nothing_is_said() -> None:
    of_cpu = service(on="cpu", maxNumSeqs=1024)
    assert levers.tokens_a_step(of_cpu) == token_budget(levers.settings(of_cpu), "cpu") == 1024
