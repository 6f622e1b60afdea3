"""`octavo top`: from two samples to figures, and from figures to a view."""

import io
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from rich.console import Console

from octavo_runtime.top.figures import Latency, Traffic, figures, quantile
from octavo_runtime.top.live import run
from octavo_runtime.top.sample import Sample, parse
from octavo_runtime.top.view import lost, view


def metrics_text(**values: float) -> str:
    """Metrics of a server: counters and gauges by the name of the series without octavo_."""
    lines = [f'octavo_{name}{{model_name="m"}} {value}' for name, value in values.items()]
    return "\n".join([*lines, 'octavo_cache_config_info{block_size="16",model_name="m",num_gpu_blocks="200"} 1', ""])


def sample(at: float, text: str = "", **values: float) -> Sample:
    return Sample(at, "ready", parse(metrics_text(**values) + text))


BEFORE = sample(
    10.0,
    requests_running=1,
    prompt_tokens_total=100,
    generation_tokens_total=50,
    prefix_cache_queries_total=100,
    prefix_cache_hits_total=90,
)
AFTER = sample(
    12.0,
    requests_running=3,
    requests_waiting=2,
    kv_cache_usage_ratio=0.25,
    prompt_tokens_total=300,
    generation_tokens_total=150,
    prefix_cache_queries_total=300,
    prefix_cache_hits_total=150,
)


def test_gauges_are_of_now_and_counters_of_the_time_between():
    got = figures(BEFORE, AFTER)
    assert (got.model, got.health, got.seconds) == ("m", "ready", 2.0)
    assert (got.running, got.waiting, got.swapped) == (3, 2, 0)
    assert (got.blocks_used, got.blocks_total) == (50, 200)
    assert (got.prompt_tokens, got.generated_tokens) == (100.0, 50.0)
    assert (got.hit_rate, got.hit_rate_since_start) == (0.3, 0.5)
    assert set(got.latencies.values()) == {Latency(None, None)}


def test_a_server_that_started_anew_counts_from_zero():
    got = figures(AFTER, sample(14.0, generation_tokens_total=30, prefix_cache_queries_total=0))
    assert got.generated_tokens == 15.0
    assert got.hit_rate is None
    assert got.hit_rate_since_start is None


def test_a_server_that_still_loads_has_figures():
    got = figures(sample(0.0), Sample(1.0, "loading", parse("octavo_requests_running 0\n")))
    assert (got.model, got.blocks_total, got.traffic) == ("", 0, [])
    assert drawn(view(got, "http://a"))


def histogram(*values: float) -> str:
    registry = CollectorRegistry()
    one = Histogram("octavo_time_to_first_token_seconds", "x", buckets=(0.1, 0.2, 0.5), registry=registry)
    for value in values:
        one.observe(value)
    return generate_latest(registry).decode()


def test_latencies_are_those_of_the_time_between():
    old = [0.05] * 1000
    got = figures(sample(0.0, histogram(*old)), sample(1.0, histogram(*old, *[0.15] * 50, *[0.3] * 50)))
    latency = got.latencies["first token"]
    assert latency.p50 == pytest.approx(0.2)
    assert latency.p99 == pytest.approx(0.2 + 0.3 * 49 / 50)
    beyond = figures(sample(0.0, histogram(*old)), sample(1.0, histogram(*old, 9.0)))
    assert beyond.latencies["first token"] == Latency(math.inf, math.inf)
    anew = figures(sample(0.0, histogram(*old)), sample(1.0, histogram(0.15)))
    assert anew.latencies["first token"].p50 == pytest.approx(0.15)


@settings(deadline=None)
@given(st.lists(st.floats(0, 2), min_size=1), st.floats(0.01, 1), st.sets(st.floats(0.01, 1.5), min_size=1))
def test_a_quantile_lies_in_its_bucket(values, share, bounds):
    edges = [*sorted(bounds), math.inf]
    got = quantile(share, {edge: sum(value <= edge for value in values) for edge in edges})
    exact = sorted(values)[math.ceil(share * len(values) - 1e-9) - 1]
    high = next(edge for edge in edges if exact <= edge)
    low = max((edge for edge in edges if edge < high), default=0.0)
    assert got is not None
    assert low - 1e-9 <= got <= high


def test_no_observation_has_no_quantile():
    assert quantile(0.5, {}) is None
    assert quantile(0.5, {1.0: 0.0, math.inf: 0.0}) is None


def keys(*, scale: int) -> str:
    rows = [
        ("requests", "status", [("alice", "200", 4), ("alice", "429", 2), ("bob", "200", 1), ("", "401", 3)]),
        ("tokens", "kind", [("alice", "prompt", 10), ("alice", "generation", 20), ("bob", "generation", 100)]),
    ]
    return "".join(
        f'octavo_key_{name}_total{{key="{key}",{label}="{value}",model_name="m"}} {count * scale}\n'
        for name, label, found in rows
        for key, value, count in found
    )


def test_traffic_by_key_the_busiest_first():
    got = figures(sample(0.0, keys(scale=1)), sample(2.0, keys(scale=3)))
    assert got.traffic == [
        Traffic("bob", 1.0, 0.0, 0.0, 100.0),
        Traffic("alice", 6.0, 2.0, 10.0, 20.0),
        Traffic("", 3.0, 3.0, 0.0, 0.0),
    ]
    new = figures(sample(0.0), sample(1.0, keys(scale=1)))
    assert new.traffic[0].generated_tokens == 100.0, "a key that was not there counted 0"


def drawn(shown, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(shown)
    return out.getvalue()


def test_the_view_says_it_all_within_80_columns():
    text = histogram(0.15, 9.0) + keys(scale=1)
    got = figures(BEFORE, Sample(12.0, "ready", AFTER.series | parse(text)))
    lines = [" ".join(line.split()) for line in drawn(view(got, "http://127.0.0.1:8000")).splitlines()]
    assert lines[0] == "m ready http://127.0.0.1:8000 over 2.0 s"
    for words in (
        ("running", "3"),
        ("waiting", "2"),
        ("KV blocks", "50 of 200 25.0%"),
        ("prefix hits", "30.0% (since the start 50.0%)"),
        ("prompt", "100.0 tokens/s"),
        ("generated", "50.0 tokens/s"),
        ("first token", "200.0 ms over 60 s"),
        ("between tokens", "- -"),
        ("alice", "3.0 1.0 5.0 10.0"),
        ("(none)", "1.5 1.5 0.0 0.0"),
    ):
        [line] = [line for line in lines if line.startswith(words[0])]
        assert line.endswith(words[1])
    assert max(map(len, drawn(view(got, "http://" + "a" * 200)).splitlines())) <= 80


def test_bars_are_as_long_as_what_they_show():
    bar = next(line for line in drawn(view(figures(BEFORE, AFTER), "u")).splitlines() if line.startswith("KV"))
    assert bar.count("━") == 8, "a quarter of 32 cells; without colour the rest is left out"


def test_many_keys_are_cut_and_names_cannot_steer_the_terminal():
    rows = "".join(
        f'octavo_key_requests_total{{key="{name}",status="200"}} 1\n'
        for name in ["\x1b[31m[bold]red", *(f"k{n}" for n in range(20))]
    )
    shown = drawn(view(figures(sample(0.0), sample(1.0, rows)), "u"))
    assert "\x1b" not in shown
    assert "?[31m[bold]red" in shown
    assert "and 9 keys more" in shown


def test_a_lost_server_says_so():
    assert drawn(lost("http://a does not answer: refused", 12.3)).splitlines() == [
        "http://a does not answer: refused",
        "for 12 s; trying on, Ctrl-C ends",
    ]


@pytest.mark.parametrize(
    ("url", "key", "interval", "words"),
    [
        ("nonsense", "", 1.0, "url: must be like http://localhost:8000, got 'nonsense'"),
        ("http://a", "", 0.0, "interval: must be from 0.2 to 60, got 0.0"),
        ("http://a", "", float("nan"), "interval: must be from 0.2 to 60, got nan"),
        ("http://a", "ä", 1.0, "api_key: must be printable ASCII"),
    ],
)
def test_bad_arguments_are_one_line(url, key, interval, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        run(url, key, interval, once=True)
    assert str(refused.value) == words
