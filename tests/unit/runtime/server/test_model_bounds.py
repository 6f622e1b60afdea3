"""What fits a model, what is cut to fit, and what is refused."""

from types import SimpleNamespace
from typing import Any

import pytest

from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.generation.bounds import TokenLimit, check_prompt, within_room
from octavo_runtime.server.http.errors import ApiError, error_message
from octavo_runtime.server.http.record import RequestRecord, begin_request

MODEL: Any = SimpleNamespace(max_model_len=10, vocab_size=100)


def refused(prompt: list[int], *, answered: bool) -> tuple[str, str | None]:
    with pytest.raises(ApiError) as error:
        check_prompt(MODEL, prompt, "prompt", answered=answered)
    assert error.value.field == "prompt"
    return error_message(error.value), error.value.code


def test_a_prompt_that_is_answered_leaves_room_for_a_token():
    check_prompt(MODEL, [1] * 9, "prompt", answered=True)
    check_prompt(MODEL, [1] * 10, "prompt", answered=False)
    message, code = refused([1] * 10, answered=True)
    assert message.startswith("prompt: must have at most 9 tokens, to leave room for an answer within the limit of 10")
    assert code == "context_length_exceeded"
    assert refused([1] * 11, answered=False)[0] == "prompt: must have at most 10 tokens, got 11"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [([], "at least one token"), ([100], "from 0 to 99, got 100"), ([-1, 5], "from 0 to 99, got -1")],
)
def test_a_prompt_has_tokens_that_the_model_knows(prompt, words):
    message, code = refused(prompt, answered=True)
    assert words in message
    assert code is None


def room(tokens: int | None, **params: Any) -> int | None:
    given = SamplingParams(max_tokens=tokens, **params)
    return within_room(MODEL, [1] * 6, "prompt", given, TokenLimit(tokens, "max_tokens")).max_tokens


def test_the_limit_of_an_answer_is_cut_to_the_room_and_the_cut_is_noted():
    record = RequestRecord()
    begin_request(record)
    assert [room(None), room(3), room(4)] == [None, 3, 4]
    assert record.ignored == []
    assert room(5) == 4
    assert record.ignored == ["max_tokens"]


@pytest.mark.parametrize(("strict", "params"), [(True, {}), (False, {"min_tokens": 5})])
def test_a_limit_that_may_not_be_cut_is_refused_by_the_clients_name(strict, params):
    begin_request(RequestRecord(strict=strict, field_name={"prompt": "input", "max_tokens": "most"}.__getitem__))
    with pytest.raises(ApiError) as error:
        room(5, **params)
    assert error_message(error.value) == "input: 6 prompt tokens and most 5 make 11, the limit of both together is 10"
