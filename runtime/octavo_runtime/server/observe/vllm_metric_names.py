"""The metrics by vLLM's names, so that dashboards, scalers and gateways made for it read Octavo unchanged."""

from collections import defaultdict
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.registry import Collector

from octavo_runtime.protocol import metrics


class VllmNames(Collector):
    """All families of a registry, and once more those that vLLM has, by its names and with its labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._known = {_family_name(metric.name): metric for metric in metrics.METRICS if metric.vllm}

    def collect(self) -> Iterator[MetricFamily]:
        """The families as they are now."""
        for family in self._registry.collect():
            yield family
            if family.name in self._known:
                yield _renamed(family, self._known[family.name])


def _renamed(family: MetricFamily, metric: metrics.Metric) -> MetricFamily:
    name = _family_name(metric.vllm)
    dropped = set(metric.labels) - set(metric.labels if metric.vllm_labels is None else metric.vllm_labels)
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
    for sample in family.samples:
        labels = tuple((label, value) for label, value in sample.labels.items() if label not in dropped)
        sums[name + sample.name.removeprefix(family.name), labels] += sample.value
    renamed = MetricFamily(name, family.documentation, family.type)
    for (sample_name, labels), value in sums.items():
        renamed.add_sample(sample_name, dict(labels), value)
    return renamed


def _family_name(name: str) -> str:
    """prometheus_client's name of a family: a counter's has no _total."""
    return name.removesuffix("_total")
