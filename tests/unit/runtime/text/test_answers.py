"""From the engine's outputs to answers."""

import json

import pytest
import tokenizers
from tokenizers import decoders, models

from octavo_runtime.protocol.messages import Output, RequestError
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import TokenLogprobs
from octavo_runtime.text.answers import Answers
from octavo_runtime.text.tokenizer import Tokenizer

END = 0


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Token 1 + b is the byte b."""
    pieces = ["</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    theirs = tokenizers.Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    theirs.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    theirs.add_special_tokens(["</s>"])
    return Tokenizer(json.loads(theirs.to_str()), {"eos_token": "</s>"}, [])


def ids(text: str) -> list[int]:
    return [1 + byte for byte in text.encode()]


def scores(*logprobs: float) -> list[TokenLogprobs]:
    return [TokenLogprobs([1], [logprob], [1]) for logprob in logprobs]


def test_answers_grow_side_by_side(tokenizer):
    answers = Answers(tokenizer, SamplingParams(n=2))
    deltas = [
        answers.add(Output("r", ids("ab"), index=0)),
        answers.add(Output("r", ids("x"), index=1)),
        answers.add(Output("r", [*ids("c"), END], "stop", index=0)),
    ]
    assert [(delta.index, delta.text, delta.finish_reason) for delta in deltas] == [
        (0, "ab", None),
        (1, "x", None),
        (0, "c", "stop"),
    ]
    assert not answers.finished
    answers.add(Output("r", ids("y"), "length", index=1))
    assert answers.finished
    first, second = answers.best()
    assert (first.text, first.finish_reason, first.token_ids[-1]) == ("abc", "stop", END)
    assert (second.text, second.finish_reason) == ("xy", "length")


def test_a_stop_string_ends_one_answer_and_drops_what_is_under_way(tokenizer):
    answers = Answers(tokenizer, SamplingParams(n=2, stop=("bc",)))
    answers.add(Output("r", ids("ab"), index=0))
    met = answers.add(Output("r", ids("cd"), index=0))
    assert (met.text, met.finish_reason, met.stopped) == ("", "stop", True)
    assert answers.add(Output("r", ids("e"), index=0)) is None
    answers.add(Output("r", ids("z"), "length", index=1))
    first, second = answers.best()
    assert (first.text, first.stop_reason) == ("a", "bc")
    assert (second.text, second.stop_reason) == ("z", None)
    assert answers.finished


def test_a_stop_string_in_the_last_output_needs_no_abort(tokenizer):
    answers = Answers(tokenizer, SamplingParams(stop=("b",), include_stop_str_in_output=True))
    delta = answers.add(Output("r", ids("ab"), "length"))
    assert (delta.text, delta.finish_reason, delta.stopped) == ("ab", "stop", False)


def test_the_stop_token_is_the_reason_and_an_end_of_sequence_token_is_none(tokenizer):
    stopped = Answers(tokenizer, SamplingParams(stop_token_ids=[99]))
    stopped.add(Output("r", [*ids("a"), 99], "stop"))
    ended = Answers(tokenizer, SamplingParams(stop_token_ids=[99]))
    ended.add(Output("r", [*ids("a"), END], "stop"))
    assert [(one.text, one.stop_reason) for one in stopped.best() + ended.best()] == [("a", 99), ("a", None)]


def test_an_error_ends_the_answers_that_still_grow(tokenizer):
    answers = Answers(tokenizer, SamplingParams(n=3, stop=("bcd",)))
    answers.add(Output("r", ids("a"), "length", index=0))
    answers.add(Output("r", ids("ab"), index=1))
    error = RequestError("deadline", "too late")
    answers.fail(error)
    assert answers.finished
    result = answers.request_output("r", None, [1])
    assert [(one.text, one.finish_reason) for one in result.outputs] == [
        ("a", "length"),
        ("ab", "error"),
        ("", "error"),
    ]
    assert result.error is error


def test_best_of_keeps_those_of_highest_mean_log_probability(tokenizer):
    answers = Answers(tokenizer, SamplingParams(n=2, best_of=3))
    answers.add(Output("r", ids("aaaa"), "length", index=0, logprobs=scores(-1, -1, -1, -1)))
    answers.add(Output("r", ids("b"), "length", index=1, logprobs=scores(-2)))
    assert len(answers.best()) == 2, "nothing is left out before all have ended"
    answers.add(Output("r", ids("cc"), "length", index=2, logprobs=scores(-0.5, -0.5)))
    best = answers.best()
    assert [(one.index, one.text, one.cumulative_logprob) for one in best] == [(0, "cc", -1.0), (1, "aaaa", -4.0)]
    assert [one.logprobs for one in best] == [None, None], "they were not asked for"


def test_log_probabilities_are_kept_where_asked_for(tokenizer):
    answers = Answers(tokenizer, SamplingParams(logprobs=0))
    answers.add(Output("r", ids("a"), logprobs=scores(-1)))
    answers.add(Output("r", ids("b"), "length", logprobs=scores(-2)))
    [answer] = answers.best()
    assert answer.logprobs == scores(-1, -2)
    assert answer.cumulative_logprob == -3


def test_what_comes_once_a_request_is_kept(tokenizer):
    answers = Answers(tokenizer, SamplingParams(prompt_logprobs=0))
    answers.add(Output("r", ids("a"), prompt_logprobs=scores(-1, -2), cached_tokens=16))
    answers.add(Output("r", ids("b"), "length"))
    output = answers.request_output("r", "xyz", [1, 2, 3])
    assert (output.request_id, output.prompt, output.prompt_token_ids) == ("r", "xyz", [1, 2, 3])
    assert output.cached_tokens == 16
    assert output.prompt_logprobs == scores(-1, -2)
    assert output.finished


def test_beams_arrive_whole(tokenizer):
    answers = Answers(tokenizer, SamplingParams(n=2, beam_width=3))
    answers.add(Output("r", ids("ab"), "length", index=0, score=-0.1))
    answers.add(Output("r", [*ids("c"), END], "stop", index=1, score=-0.2))
    assert [(one.text, one.score, one.finish_reason) for one in answers.best()] == [
        ("ab", -0.1, "length"),
        ("c", -0.2, "stop"),
    ]
