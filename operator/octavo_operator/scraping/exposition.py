"""What one scrape of a pod says of the metrics that targets are about."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from octavo_operator.api.targets import Target

_MAX_LINES = 2000  # an engine says about fifty


@dataclass(frozen=True)
class Exposition:
    """`gauges`: of each metric its value for each set of labels. `histograms`: of each metric the observations up to
    each bound."""

    gauges: Mapping[str, list[float]] = field(default_factory=dict)
    histograms: Mapping[str, dict[float, float]] = field(default_factory=dict)


def read(text: str, targets: Iterable[Target]) -> Exposition:
    """Of Prometheus' text format what `targets` need; ValueError where it is none."""
    wanted = {target.metric.name: target.metric.type for target in targets}
    names = tuple(wanted)
    # The parser is slow, and a server tells much more than is asked for here.
    lines = [line for line in text.splitlines() if line.removeprefix("# TYPE ").startswith(names)]
    if len(lines) > _MAX_LINES:
        raise ValueError(f"{len(lines)} lines of what is asked for, and at most {_MAX_LINES} are read")
    gauges: dict[str, list[float]] = {}
    histograms: dict[str, dict[float, float]] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            value = float(sample.value)
            if not math.isfinite(value):
                continue
            if wanted.get(sample.name) == "gauge":
                gauges.setdefault(sample.name, []).append(value)
            elif wanted.get(sample.name.removesuffix("_bucket")) == "histogram" and "le" in sample.labels:
                buckets = histograms.setdefault(sample.name.removesuffix("_bucket"), {})
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + value
    return Exposition(gauges, histograms)
