"""Tokens beside the text that they belong to."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from octavo_runtime.protocol.step import TokenLogprobs
from octavo_runtime.server.generation.logprobs import TokenTrail, chat_logprobs, completion_logprobs, place_prompt
from octavo_runtime.text.detokenizer import Detokenizer
from octavo_runtime.text.tokenizer import Tokenizer

END = 0


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Token 1 + b is the byte b."""
    pieces = ["</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁ab"]
    theirs = tokenizers.Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    theirs.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    theirs.add_special_tokens(["</s>"])
    return Tokenizer(json.loads(theirs.to_str()), {"eos_token": "</s>"}, [])


def entries(tokens: list[int]) -> list[TokenLogprobs]:
    return [TokenLogprobs([token], [-1.0], [1]) for token in tokens]


@given(
    text=st.text("ab€", max_size=30),
    stop=st.lists(st.text("ab€", min_size=1, max_size=4), max_size=2),
    cuts=st.lists(st.integers(1, 5), max_size=30),
    reason=st.sampled_from(["stop", "length"]),
)
def test_however_tokens_come_those_shown_make_up_the_text(tokenizer, text, stop, cuts, reason):
    tokens = [1 + byte for byte in text.encode()] + ([END] if reason == "stop" else [])
    detokenizer, trail = Detokenizer(tokenizer, stop), TokenTrail(tokenizer, skip_special_tokens=True, offset=7)
    got, shown, start = "", [], 0
    for cut in [*cuts, len(tokens) + 1]:
        chunk, start = tokens[start : start + cut], start + cut
        last = start >= len(tokens)
        piece = detokenizer.add(chunk, finished=last, stopped_by_token=last and reason == "stop")
        got += piece
        ended = "stop" if detokenizer.stop else reason if last else None
        shown += trail.add(chunk, entries(chunk), piece, ended)
        if ended:
            break
    data = bytes(one.token_id - 1 for one in shown)
    assert data.decode() == got
    assert [one.offset for one in shown] == [7 + len(data[:i].decode("utf-8", "ignore")) for i in range(len(data))]


def test_a_prompt_is_placed_within_its_echo(tokenizer):
    prompt = [257, END, 1 + ord("c"), 257]
    placed = list(place_prompt(tokenizer, prompt, entries(prompt[1:]), skip_special_tokens=True))
    assert tokenizer.decode(prompt) == "abc ab"
    assert [one.offset for one in placed] == [0, 2, 2, 3]
    assert [one.logprobs is None for one in placed] == [True, False, False, False]


def test_parts_of_characters_are_spelled_as_bytes(tokenizer):
    half = [1 + byte for byte in "€".encode()][:2]
    placed = TokenTrail(tokenizer, skip_special_tokens=True).add(half, entries(half), "", "length")
    assert completion_logprobs(tokenizer, placed, 0).tokens == ["bytes:\\xe2", "bytes:\\x82"]
    assert [(one.token, one.bytes) for one in chat_logprobs(tokenizer, placed).content] == [
        ("\ufffd", [0xE2]),
        ("\ufffd", [0x82]),
    ]


def test_the_impossible_has_a_finite_log_probability(tokenizer):
    entry = TokenLogprobs([98, 99], [float("-inf"), -0.5], [2, 1])
    placed = TokenTrail(tokenizer, skip_special_tokens=True).add([98], [entry], "a", None)
    made = completion_logprobs(tokenizer, placed, 1)
    assert (made.token_logprobs, made.top_logprobs) == ([-9999.0], [{"a": -9999.0, "b": -0.5}])
    assert completion_logprobs(tokenizer, placed, 0).top_logprobs == [{"a": -9999.0}]
