"""What the pods of autoscaled services said of late, and what they did not say, and why."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from octavo_operator.api import Key
from octavo_operator.api.targets import Target
from octavo_operator.scraping import histogram
from octavo_operator.scraping.asking import metrics_url
from octavo_operator.scraping.exposition import Exposition
from octavo_runtime.protocol import metrics

INTERVAL = 15.0  # seconds from one scrape of a pod to the next
WINDOW = 60.0  # seconds that a quantile looks back
STALE = 2.5 * INTERVAL  # what was said so long ago is said no more


@dataclass(frozen=True)
class Reading:
    """What one pod says of one metric: `value`, or `why` there is none. `at`: Unix time; `window`: the seconds that it
    was counted over, 0 for what is as of that moment."""

    pod: str
    labels: Mapping[str, str]
    value: float | None = None
    why: str = ""
    at: float = 0.0
    window: float = 0.0


@dataclass
class Source:
    """A pod, and its scrapes of late, oldest first. `url`: of its /metrics; None where it is not ready."""

    key: Key
    name: str
    labels: Mapping[str, str]
    url: str | None
    targets: Sequence[Target]
    scrapes: deque[tuple[float, Exposition]] = field(default_factory=deque)
    trouble: str = "was not asked yet"
    tried: float = 0.0

    def heard(self, exposition: Exposition, now: float) -> None:
        """A scrape went well."""
        self.scrapes.append((now, exposition))
        while len(self.scrapes) > 2 and now - self.scrapes[0][0] > WINDOW + INTERVAL / 2:
            self.scrapes.popleft()
        self.trouble = ""

    def reading(self, target: Target, now: float) -> Reading:
        """What it says of a target's metric."""
        if self.url is None:
            return Reading(self.name, self.labels, why="is not ready")
        if not self.scrapes or now - self.scrapes[-1][0] > STALE:
            return Reading(self.name, self.labels, why=self.trouble or "was not asked of late")
        at, last = self.scrapes[-1]
        if target.quantile is None:
            values = last.gauges.get(target.metric.name)
            if not values:
                return Reading(self.name, self.labels, why=_missing(target))
            value = sum(values) / len(values) if "gpu" in target.metric.labels else sum(values)
            return Reading(self.name, self.labels, value, at=at)
        if target.metric.name not in last.histograms:
            return Reading(self.name, self.labels, why=_missing(target))
        since, first = self.scrapes[0]
        if since == at:
            return Reading(self.name, self.labels, why=f"was asked once: {target.name} takes two times")
        counted = histogram.increase(first.histograms.get(target.metric.name, {}), last.histograms[target.metric.name])
        return Reading(self.name, self.labels, histogram.quantile(target.quantile, counted), at=at, window=at - since)


class Readings:
    """Of all pods that builtin autoscaling looks at. `clock`: Unix time."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._targets: dict[Key, Sequence[Target]] = {}
        self._sources: dict[Key, dict[str, Source]] = {}
        self._wanted = asyncio.Event()

    def watch(self, key: Key, targets: Sequence[Target], pods: Iterable[Mapping[str, Any]]) -> None:
        """These are the pods of a service, and what is asked of them."""
        former = self._sources.get(key, {})
        self._targets[key] = targets
        self._sources[key] = {}
        for pod in pods:
            if "deletionTimestamp" in pod["metadata"]:
                continue
            name, url = pod["metadata"]["name"], metrics_url(pod)
            source = former.get(name)
            if source is None or source.url != url or source.targets != targets:
                source = Source(key, name, pod["metadata"].get("labels", {}), url, targets)
            self._sources[key][name] = source
        self._wanted.set()

    def forget(self, key: Key) -> None:
        """Nothing is asked of a service's pods."""
        self._targets.pop(key, None)
        self._sources.pop(key, None)
        if not self._targets:
            self._wanted.clear()

    def services(self) -> list[Key]:
        """Those whose pods are asked."""
        return list(self._targets)

    async def wanted(self) -> None:
        """Returns once there is such a service."""
        await self._wanted.wait()

    def due(self) -> list[Source]:
        """The pods that are to be scraped now; they count as tried."""
        now = self._clock()
        found = [
            source
            for sources in self._sources.values()
            for source in sources.values()
            if source.url is not None and now - source.tried >= INTERVAL
        ]
        for source in found:
            source.tried = now
        return found

    def heard(self, source: Source, exposition: Exposition) -> None:
        """A pod answered."""
        source.heard(exposition, self._clock())

    def of(self, namespace: str, target: Target) -> list[Reading]:
        """What each pod of a namespace says of a target's metric, whose service has that target."""
        now = self._clock()
        return [
            source.reading(target, now)
            for (place, _), sources in self._sources.items()
            for source in sources.values()
            if place == namespace and target in source.targets
        ]

    def silent(self, key: Key) -> dict[Target, str]:
        """The targets of a service that no pod says anything of, and why."""
        now = self._clock()
        found = {}
        for target in self._targets.get(key, ()):
            sources = self._sources[key].values()
            if not any(source.reading(target, now).value is not None for source in sources):
                found[target] = why([source.reading(target, now) for source in sources])
        return found


def why(readings: Sequence[Reading]) -> str:
    """Why none of these readings has a value: the first one's reason, of a ready pod if there is one."""
    if not readings:
        return "there is no pod"
    told = sorted(readings, key=lambda reading: (reading.why == "is not ready", reading.pod))[0]
    others = f" (and none of the {len(readings)} pods says it)" if len(readings) > 1 else ""
    return f"pod {told.pod} {told.why}{others}"


def _missing(target: Target) -> str:
    if target.metric is metrics.GPU_UTILIZATION_RATIO:
        return "has no GPU, or one that does not tell its use"
    return f"says nothing of {target.metric.name} in its /metrics"
