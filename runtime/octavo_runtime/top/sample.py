"""One look at a server: its metrics and its health at one moment."""

import time
from dataclasses import dataclass, field

import httpx
from prometheus_client.parser import text_string_to_metric_families

from octavo_runtime.protocol import metrics

Series = dict[str, list[tuple[dict[str, str], float]]]
"""From a series' name to its labels and value, once for each set of labels."""


class NoSample(RuntimeError):
    """The server did not answer, or not with Octavo's metrics. One line for a person."""


@dataclass(frozen=True)
class Sample:
    """time: in seconds of a clock that only goes forward; health: the server's own word, such as ready."""

    time: float
    health: str
    series: Series = field(repr=False)

    def total(self, name: str, **labels: str) -> float:
        """The sum of a series over all its labels other than those given; 0 where there is none."""
        return sum(
            value for found, value in self.series.get(name, ()) if all(found.get(key) == labels[key] for key in labels)
        )

    def label(self, name: str, label: str) -> str:
        """A label's value in a series; empty where there is none."""
        return next((found.get(label, "") for found, _ in self.series.get(name, ())), "")


def take(http: httpx.Client, url: str) -> Sample:
    """Asks the server at `url`, without /v1. Raises NoSample."""
    try:
        text = http.get(f"{url}/metrics")
        now = time.monotonic()
        health = http.get(f"{url}/health")
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise NoSample(f"{url} does not answer: {str(error) or type(error).__name__}") from None
    if text.status_code in (401, 403):
        raise NoSample(f"{url}/metrics asks for a key: --api-key")
    if not text.is_success:
        raise NoSample(f"{url}/metrics answered {text.status_code}")
    try:
        series = parse(text.text)
    except ValueError as error:
        raise NoSample(f"{url}/metrics is not in Prometheus' text format: {error}") from None
    if metrics.REQUESTS_RUNNING.name not in series:
        raise NoSample(f"{url}/metrics has no metrics of Octavo")
    return Sample(now, _status(health), series)


def parse(text: str) -> Series:
    """The series in Prometheus' text format. Raises ValueError."""
    series: Series = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            series.setdefault(one.name, []).append((one.labels, one.value))
    return series


def _status(health: httpx.Response) -> str:
    try:
        return str(health.json()["status"])
    except (ValueError, KeyError, TypeError):
        return f"health: HTTP {health.status_code}"
