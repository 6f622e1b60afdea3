"""What is known of pods' metrics, and why some are not."""

from typing import Any

import pytest

from octavo_operator.api.targets import TARGETS, Target, named
from octavo_operator.scraping.exposition import Exposition, read
from octavo_operator.scraping.readings import INTERVAL, STALE, Readings, Source

KEY = ("default", "chat")
BY_FIELD = {target.field: target for target in TARGETS}
QUEUE, LATENCY, GPU = BY_FIELD["queue_depth"], BY_FIELD["p99_latency"], BY_FIELD["gpu_utilization"]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def pod(name: str, *, ready: bool = True, address: str = "10.0.0.1", **annotations: str) -> dict[str, Any]:
    said = {f"prometheus.io/{key}": value for key, value in annotations.items()}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "labels": {"app": name}, "annotations": said},
        "status": {"podIP": address, "conditions": conditions},
    }


def watched(*targets: Target, pods: list[dict[str, Any]]) -> tuple[Readings, Clock]:
    clock = Clock()
    readings = Readings(clock)
    readings.watch(KEY, targets, pods)
    return readings, clock


def queue(value: float) -> Exposition:
    return Exposition({QUEUE.metric.name: [value]})


def latency(*counts: float) -> Exposition:
    return Exposition({}, {LATENCY.metric.name: dict(zip((1.0, 2.0, float("inf")), counts, strict=True))})


def values(readings: Readings, target: Target) -> dict[str, float | None]:
    return {reading.pod: reading.value for reading in readings.of("default", target)}


def test_only_ready_pods_are_asked_one_time_in_each_interval() -> None:
    readings, clock = watched(QUEUE, pods=[pod("a"), pod("b", ready=False), pod("c", address="")])
    assert [source.name for source in readings.due()] == ["a"]
    assert readings.due() == []
    clock.now += INTERVAL
    assert [source.name for source in readings.due()] == ["a"]


def test_nothing_is_asked_where_no_service_is_watched() -> None:
    readings, _ = watched(QUEUE, pods=[pod("a")])
    readings.forget(KEY)
    assert (readings.due(), readings.services(), readings.of("default", QUEUE)) == ([], [], [])


@pytest.mark.parametrize(
    ("made", "url"),
    [
        (pod("a"), "http://10.0.0.1:8000/metrics"),
        (pod("a", port="9", scheme="https", path="/m"), "https://10.0.0.1:9/m"),
        (pod("a", address="fd00::1"), "http://[fd00::1]:8000/metrics"),
    ],
)
def test_pods_are_asked_where_their_annotations_say(made: dict[str, Any], url: str) -> None:
    readings, _ = watched(QUEUE, pods=[made])
    assert [source.url for source in readings.due()] == [url]


def heard(readings: Readings, clock: Clock, exposition: Exposition, after: float = 0.0) -> None:
    clock.now += after
    for source in readings.due():
        readings.heard(source, exposition)


def test_a_gauge_is_known_from_one_scrape_and_until_it_is_old() -> None:
    readings, clock = watched(QUEUE, pods=[pod("a")])
    heard(readings, clock, queue(4))
    assert values(readings, QUEUE) == {"a": 4.0}
    clock.now += STALE + 1
    assert values(readings, QUEUE) == {"a": None}


def test_a_quantile_takes_two_scrapes_and_is_nothing_without_traffic() -> None:
    readings, clock = watched(LATENCY, pods=[pod("a")])
    heard(readings, clock, latency(5, 5, 5))
    assert "takes two times" in readings.silent(KEY)[LATENCY]
    heard(readings, clock, latency(5, 5, 5), after=INTERVAL)
    assert values(readings, LATENCY) == {"a": 0.0}
    heard(readings, clock, latency(5, 105, 105), after=INTERVAL)
    (reading,) = readings.of("default", LATENCY)
    assert reading.value == pytest.approx(1.99)
    assert reading.window == 2 * INTERVAL
    assert readings.silent(KEY) == {}


def test_a_quantile_forgets_what_is_long_ago() -> None:
    readings, clock = watched(LATENCY, pods=[pod("a")])
    heard(readings, clock, latency(0, 0, 0))
    for _ in range(6):
        heard(readings, clock, latency(0, 100, 100), after=INTERVAL)
    assert values(readings, LATENCY) == {"a": 0.0}


def test_gpus_are_averaged() -> None:
    readings, clock = watched(GPU, pods=[pod("a")])
    text = 'octavo_gpu_utilization_ratio{gpu="0"} 0.9\noctavo_gpu_utilization_ratio{gpu="1"} 0.5\n'
    heard(readings, clock, read(text, [GPU]))
    assert values(readings, GPU)["a"] == pytest.approx(0.7)


def test_why_a_metric_is_missing_names_pod_and_cause() -> None:
    readings, clock = watched(QUEUE, GPU, pods=[])
    assert readings.silent(KEY) == {QUEUE: "there is no pod", GPU: "there is no pod"}
    readings.watch(KEY, (QUEUE, GPU), [pod("a", ready=False)])
    assert readings.silent(KEY)[QUEUE] == "pod a is not ready"
    readings.watch(KEY, (QUEUE, GPU), [pod("a", ready=False), pod("b")])
    (source,) = readings.due()
    source.trouble = "cannot be asked on http://10.0.0.1:8000/metrics: connection refused"
    assert "pod b cannot be asked on http://10.0.0.1:8000/metrics: connection refused" in readings.silent(KEY)[QUEUE]
    clock.now += INTERVAL
    heard(readings, clock, queue(0))
    assert "pod b has no GPU" in readings.silent(KEY)[GPU]
    assert QUEUE not in readings.silent(KEY), "one pod that answers is enough"


def test_scrapes_outlive_another_look_at_the_same_pods_but_not_a_pod_that_goes() -> None:
    readings, clock = watched(QUEUE, pods=[pod("a"), pod("b")])
    heard(readings, clock, queue(4))
    readings.watch(KEY, (QUEUE,), [pod("a"), pod("b") | {"metadata": {"name": "b", "deletionTimestamp": "now"}}])
    assert values(readings, QUEUE) == {"a": 4.0}


def test_a_metric_that_is_no_target_of_the_service_is_not_answered() -> None:
    readings, clock = watched(QUEUE, pods=[pod("a")])
    heard(readings, clock, queue(4))
    assert readings.of("default", GPU) == []
    assert readings.of("other", QUEUE) == []


def test_names_of_metrics_are_told_apart() -> None:
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    assert named("octavo_request_duration_seconds_p99") is LATENCY
    assert named("octavo_none") is None


def test_a_source_keeps_no_more_scrapes_than_its_window_takes() -> None:
    source = Source(KEY, "a", {}, "http://a", (QUEUE,))
    for index in range(100):
        source.heard(queue(index), index * INTERVAL)
    assert len(source.scrapes) <= 6
