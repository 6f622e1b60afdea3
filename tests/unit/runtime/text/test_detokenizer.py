"""Incremental text equals whole text, however the tokens are cut."""

import json
import time
from itertools import pairwise

import pytest
import tokenizers
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import decoders, models

from octavo_runtime.models.loading.files import locate
from octavo_runtime.text.detokenizer import Detokenizer
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    return load_tokenizer(locate("builtin://smollm2"))


@pytest.fixture(scope="session")
def byte_fallback() -> Tokenizer:
    pieces = ["</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁a", "b", "日", "▁日本"]
    theirs = tokenizers.Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    theirs.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    theirs.add_special_tokens(["</s>"])
    return Tokenizer(json.loads(theirs.to_str()), {"eos_token": "</s>"}, [])


def _chunks(ids: list[int], cuts: list[int]) -> list[list[int]]:
    edges = sorted({0, len(ids), *(cut % (len(ids) + 1) for cut in cuts)})
    return [ids[start:end] for start, end in pairwise(edges)]


def _stream(
    tokenizer: Tokenizer, chunks: list[list[int]], stop: tuple[str, ...] = (), *, include_stop: bool = False
) -> tuple[str, str | None]:
    detokenizer = Detokenizer(tokenizer, stop, include_stop=include_stop)
    text = "".join(detokenizer.add(chunk) for chunk in chunks)
    return text + detokenizer.flush(), detokenizer.stop


tokens = st.lists(st.integers(0, 300) | st.integers(0, 50_000), max_size=60)
cuts = st.lists(st.integers(0, 1000), max_size=20)


@given(ids=tokens, cuts=cuts)
def test_any_cut_of_any_tokens_gives_the_whole_text(byte_level, byte_fallback, ids, cuts):
    for tokenizer in (byte_level, byte_fallback):
        text, _ = _stream(tokenizer, _chunks(ids, cuts))
        assert text == tokenizer.decode(ids)


@given(text=st.text(st.characters(exclude_characters="\ufffd", codec="utf-8")), cuts=cuts)
def test_no_piece_of_a_valid_text_holds_a_broken_character(byte_level, text, cuts):
    ids = byte_level.encode(text, add_special_tokens=False, allow_special=False)
    assume(0 not in ids)  # this vocabulary lacks some bytes
    detokenizer = Detokenizer(byte_level)
    pieces = [detokenizer.add(chunk) for chunk in _chunks(ids, cuts)]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == text
    assert detokenizer.flush() == ""


@given(
    text=st.text("ab", max_size=40),
    stop=st.lists(st.text("ab", min_size=1, max_size=5), max_size=3).map(tuple),
    cuts=cuts,
)
def test_stop_strings_end_the_text_at_the_first_complete_match(byte_fallback, text, stop, cuts):
    ids = [1 + ord(character) for character in text]
    ends = [(text.find(s) + len(s), -len(s), s) for s in stop if s in text]
    end, width, met = min(ends, default=(len(text), 0, None))
    assert _stream(byte_fallback, _chunks(ids, cuts), stop) == (text[: end + width], met)
    assert _stream(byte_fallback, _chunks(ids, cuts), stop, include_stop=True) == (text[:end], met)


def test_text_is_held_back_only_while_it_may_begin_a_stop_string(byte_fallback):
    detokenizer = Detokenizer(byte_fallback, stop=("STOP",))
    assert detokenizer.add([1 + ord(c) for c in "go ST"]) == "go "
    assert detokenizer.add([1 + ord("A")]) == "STA"
    assert detokenizer.add([1 + ord("S")], finished=True) == "S"


def test_stop_strings_count_behind_the_first_tokens_only(byte_fallback):
    detokenizer = Detokenizer(byte_fallback, ["a"], min_tokens=3)
    assert detokenizer.add([1 + ord(c) for c in "aabab"]) == "aab"
    assert detokenizer.stop == "a"


def test_special_tokens_show_where_they_are_asked_for(byte_fallback):
    for skip, text in ((True, "b"), (False, "</s>b")):
        detokenizer = Detokenizer(byte_fallback, skip_special_tokens=skip)
        assert detokenizer.add([0, 259], finished=True) == text


def test_the_stop_token_counts_but_shows_no_text(byte_level):
    ids = byte_level.encode("Paris.", add_special_tokens=False, allow_special=False)
    detokenizer = Detokenizer(byte_level, skip_special_tokens=False)
    assert detokenizer.add([*ids, 2], finished=True, stopped_by_token=True) == "Paris."


def test_the_stop_token_shows_its_text_where_stops_are_included(byte_fallback):
    ids = [1 + ord(c) for c in "ab"]
    for include, text in ((False, "a"), (True, "ab")):
        detokenizer = Detokenizer(byte_fallback, include_stop=include)
        assert detokenizer.add(ids, finished=True, stopped_by_token=True) == text
    special = Detokenizer(byte_fallback, include_stop=True)
    assert special.add([*ids, 0], finished=True, stopped_by_token=True) == "ab", (
        "a special token is skipped all the same"
    )


def test_an_unfinished_character_shows_as_replacement_at_the_end_only(byte_fallback):
    half = [1 + byte for byte in "é".encode()[:1]]
    detokenizer = Detokenizer(byte_fallback)
    assert detokenizer.add(half) == ""
    assert detokenizer.flush() == "\ufffd"


def test_cost_is_linear_in_the_number_of_tokens(byte_level):
    def seconds(count: int) -> float:
        detokenizer = Detokenizer(byte_level, stop=("a" * 1023 + "b",))
        token = byte_level.encode("a", add_special_tokens=False, allow_special=False)
        start = time.process_time()
        for _ in range(count):
            detokenizer.add(token)
        return time.process_time() - start

    seconds(1000)
    short, long = min(seconds(5_000) for _ in range(3)), min(seconds(40_000) for _ in range(3))
    assert long < 8 * short * 3, f"8 times the tokens took {long / short:.1f} times as long"
