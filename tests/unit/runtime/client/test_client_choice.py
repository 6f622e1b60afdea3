"""What the client decides by pure functions: waiting times, endpoints, events."""

import asyncio
import email.utils
import math
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_runtime.client import Client
from octavo_runtime.client.backoff import delay, retry_after
from octavo_runtime.client.breaker import Breaker
from octavo_runtime.client.endpoint import Endpoint, base_url, choose
from octavo_runtime.client.events import event_data


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0.01, 60) | st.just(0.0), st.floats(0, 600), st.integers())
def test_delays_double_up_to_the_limit_less_a_random_half(failed, base, limit, seed):
    full = min(base * 2 ** min(failed - 1, 50), limit)
    assert full / 2 <= delay(failed, base, limit, Random(seed)) <= full


def test_the_default_delays():
    spans = [{delay(failed, 1.0, 10.0, Random(seed)) for seed in range(200)} for failed in range(1, 7)]
    assert [round(max(span)) for span in spans] == [1, 2, 4, 8, 10, 10]
    assert all(len(span) > 100 for span in spans)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("3600", 60.0),
        ("9" * 5000, 60.0),
        ("inf", 60.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        (email.utils.formatdate(1_000_020, usegmt=True), 20.0),
        (email.utils.formatdate(999_000, usegmt=True), 0.0),
        ("Mon, 12 Jan 1970 13:47:10", 30.0),
        ("Mon, 12 Jan 9999 13:47:10 -2359", 60.0),
        ("Mon, 99 Jan 1970 13:47:10 GMT", None),
    ],
)
def test_retry_after(header, seconds):
    assert retry_after(header, now=1_000_000, limit=60.0) == seconds


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_retry_after_is_nothing_or_bounded(header):
    seconds = retry_after(header, now=1_000_000, limit=60.0)
    assert seconds is None or (0 <= seconds <= 60 and not math.isnan(seconds))


def endpoints(*in_flight: int) -> list[Endpoint]:
    return [Endpoint(f"http://{n}", Breaker(1, 10.0), load) for n, load in enumerate(in_flight)]


def test_the_endpoint_with_the_least_load_is_chosen_and_chance_decides_ties():
    ends = endpoints(2, 1, 1, 3)
    chosen = [choose(ends, set(), 0.0, Random(seed)) for seed in range(200)]
    assert set(chosen) == {ends[1], ends[2]}
    assert 50 < chosen.count(ends[1]) < 150


def test_what_failed_or_asked_for_rest_comes_last():
    ends = endpoints(0, 5, 9)
    assert choose(ends, {ends[0]}, 0.0, Random()) is ends[1]
    ends[1].not_before = 3.0
    assert choose(ends, {ends[0]}, 0.0, Random()) is ends[2]
    ends[2].breaker.failed(0.0)
    assert choose(ends, {ends[0]}, 0.0, Random()) is ends[0]
    ends[0].not_before = 2.0
    assert choose(ends, {ends[0]}, 0.0, Random()) is ends[0], "the one with the shorter rest"
    assert choose(ends, {ends[0]}, 4.0, Random()) is ends[1]
    for one in ends:
        one.breaker.failed(4.0)
    assert choose(ends, set(), 5.0, Random()) is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_a_closed_endpoint_is_always_chosen_over_none(loads, data):
    ends = endpoints(*loads)
    for one in ends:
        if data.draw(st.booleans()):
            one.breaker.failed(0.0)
        one.not_before = data.draw(st.floats(0, 5))
    closed = [one for one in ends if one.breaker.admits(1.0)]
    assert (choose(ends, set(), 1.0, Random()) in closed) == bool(closed)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://a:8000", "http://a:8000"),
        ("https://a/v1/", "https://a"),
        ("http://[::1]:80/v1", "http://[::1]:80"),
        ("http://a/base/v1", "http://a/base"),
        ("http://é.example./v1", "http://é.example."),
    ],
)
def test_addresses(text, url):
    assert base_url(text, "endpoints") == url


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoints": ["a:8000"]}, "endpoints: must be like http://localhost:8000, got 'a:8000'"),
        ({"endpoints": ["http://a:99999"]}, "got 'http://a:99999'"),
        ({"endpoints": ["http://"]}, "got 'http://'"),
        ({"endpoints": ["http://a?b=1"]}, "got 'http://a?b=1'"),
        ({"endpoints": ["http://:80"]}, "got 'http://:80'"),
        ({"endpoints": ["http://[::1"]}, "got 'http://[::1'"),
        ({"endpoints": ["http://a b"]}, "got 'http://a b'"),
        ({"endpoints": ["http://a\n"]}, r"got 'http://a\n'"),
        ({"endpoints": ["http://a..b"]}, "got 'http://a..b'"),
        ({"endpoints": "http://a"}, "must be a list"),
        ({"endpoints": []}, "at least one"),
        ({"endpoints": ["http://a", "http://a/v1"]}, "each of them once"),
        ({"tries": 0}, "tries: must be at least 1, got 0"),
        ({"backoff": -1.0}, "backoff: must be at least 0, got -1.0"),
        ({"backoff_limit": float("nan")}, "backoff_limit: must be at least 0, got nan"),
        ({"timeout": 0.0}, "timeout: must be over 0 s, got 0.0"),
        ({"api_key": "a\r\nb"}, "api_key: must be printable ASCII"),
    ],
)
def test_bad_arguments_are_one_line(options, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        Client(**{"endpoints": ["http://a"], **options})
    assert words in str(refused.value)


def read(*chunks: bytes) -> list[bytes]:
    async def feed():
        for chunk in chunks:
            yield chunk

    async def collect():
        return [data async for data in event_data(feed())]

    return asyncio.run(collect())


def test_events():
    text = (
        'event: a\r\ndata: {"a":\r\ndata:1}\r\n\r\n: ping\n\n:\n\nid: 4\n\ndata: \u2028x\n\ndata: [DONE]\n\ndata: cut'
    )
    stream = text.encode()
    expected = [b'{"a":\n1}', "\u2028x".encode(), b"[DONE]"]
    assert read(stream) == expected
    assert read(*(stream[n : n + 1] for n in range(len(stream)))) == expected


LINES = st.lists(st.sampled_from(["data: a", "data:bc", "data", ": x", "", "", "event: e"]), max_size=12)


@settings(deadline=None)
@given(LINES, st.lists(st.integers(0, 100)), st.sampled_from(["\n", "\r\n"]))
def test_how_the_bytes_are_cut_does_not_matter(lines, cuts, newline):
    stream = "".join(line + newline for line in lines).encode()
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    assert read(*pieces) == read(stream)
