"""Utilisation and memory of the GPUs that this machine or container has, by NVIDIA's management library."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from octavo_runtime.protocol import metrics


class GpuMetrics(Collector):
    """No families until `find` has found a GPU. What a GPU does not report (a slice of one has no utilisation of its
    own) is left out."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self._nvml: ModuleType | None = None
        self._devices: list[tuple[str, str, Any]] = []  # index, uuid, handle

    def find(self) -> None:
        """Looks for GPUs, which takes a while where there are some. Without a driver there are none."""
        import pynvml

        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
            self._devices = [
                (str(index), pynvml.nvmlDeviceGetUUID(handle), handle) for index, handle in enumerate(handles)
            ]
            self._nvml = pynvml
        except pynvml.NVMLError:
            self._devices = []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families of the GPUs as they are now."""
        nvml = self._nvml
        if nvml is None or not self._devices:
            return
        utilization, memory = self._family(metrics.GPU_UTILIZATION_RATIO), self._family(metrics.GPU_MEMORY_USED_BYTES)
        for index, uuid, handle in self._devices:
            labels = (self._model_name, index, uuid)
            try:
                memory.add_metric(labels, nvml.nvmlDeviceGetMemoryInfo(handle).used)
                utilization.add_metric(labels, nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
            except nvml.NVMLError:
                continue
        yield utilization
        yield memory

    def _family(self, metric: metrics.Metric) -> GaugeMetricFamily:
        return GaugeMetricFamily(metric.name, metric.help, labels=("model_name", *metric.labels))
