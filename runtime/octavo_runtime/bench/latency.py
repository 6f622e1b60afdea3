"""`octavo bench latency`: the time to the first token of requests that arrive together, and from token to token."""

import re
from statistics import median

from octavo_runtime.bench.drive import configure
from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.model_shape import served
from octavo_runtime.bench.offline import fitted, seconds, settle, step_seconds, tell
from octavo_runtime.bench.offline_requests import equal_lengths
from octavo_runtime.bench.profile import profiled
from octavo_runtime.bench.rows import Row, find_peer
from octavo_runtime.config.options import BadOption
from octavo_runtime.engine.engine import Engine

_POINT = re.compile(r"([1-9]\d{0,3})@([1-9]\d{0,6})")
_TOKENS = 129
_LAST_STEPS = 100


def run(
    model: str,
    weights: str,
    settings: dict[str, object],
    points: str,
    peers: str,
    saved: str | None,
    profile: str | None,
    *,
    as_json: bool,
) -> list[Row]:
    """Measures and prints each of the comma-separated `points`: REQUESTS@CONTEXT."""
    chosen = [_parse(point.strip()) for point in points.split(",")]
    with served(model, weights) as (opened, needed):
        engine = Engine(configure(opened, **settings, **needed))
        for requests, context in chosen:
            fitted(engine, equal_lengths(requests, context, _TOKENS, 0))
        peer = find_peer(peers, machine(engine.ready.device))
        settle(engine)
        rows = []
        for requests, context in chosen:
            rows.append(measure(engine, requests, context))
            if profile is not None:
                jobs = fitted(engine, equal_lengths(requests, context, 12, seed=3))
                with profiled(profile, rows[-1].name.replace("@", "x")):
                    seconds(engine, jobs)
    tell("latency", engine, model, rows, peer, saved, as_json=as_json)
    return rows


def measure(engine: Engine, requests: int, context: int) -> Row:
    """Both times, each the better of two runs. From token to token: what 128 tokens more take, over 128; a hundredth of
    long prompts' time, by which two runs differ, is much of it. So also the median of the last steps, in which all
    decode."""

    def best(output_len: int, seed: int) -> list[float]:
        runs = (equal_lengths(requests, context, output_len, seed * requests + context + turn) for turn in range(2))
        return min((step_seconds(engine, fitted(engine, jobs)) for jobs in runs), key=sum)

    first, steps = sum(best(1, 7)), best(_TOKENS, 11)
    figures = {"ttft_ms": first * 1e3, "itl_ms": (sum(steps) - first) / (_TOKENS - 1) * 1e3}
    return Row(f"{requests}@{context}", figures | {"step_ms": median(steps[-_LAST_STEPS:]) * 1e3})


def _parse(point: str) -> tuple[int, int]:
    found = _POINT.fullmatch(point)
    if found is None:
        raise BadOption(f"points: must be REQUESTS@CONTEXT such as 8@512, got {point!r}")
    return int(found[1]), int(found[2])
