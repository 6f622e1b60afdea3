"""What every round works with: the way to the API server, the settings, and what is kept of services meanwhile."""

from dataclasses import dataclass
from typing import Any, Protocol

from octavo_operator.api import Key
from octavo_operator.cluster import Event
from octavo_operator.control import apply, metrics_endpoint, sizing
from octavo_operator.control.claims import Claims
from octavo_operator.control.turns import Turns
from octavo_operator.metrics_api.server import MetricsApi
from octavo_operator.scraping.downloads import Downloads
from octavo_operator.scraping.measurements import Measurements
from octavo_operator.settings import Settings

Object = dict[str, Any]


class Cluster(apply.Cluster, sizing.Cluster, Protocol):
    """What reconciling needs of a connection to the API server."""

    async def pods(self, namespace: str, service_name: str) -> list[Object]: ...
    async def events(self, kind: str, namespace: str, name: str) -> list[Object]: ...
    async def autoscalers(self, namespace: str) -> list[Object]: ...
    async def write_status(self, service: Object, status: Object) -> None: ...
    async def record(self, service: Object, event: Event) -> None: ...


@dataclass(frozen=True)
class Operator:
    cluster: Cluster
    settings: Settings
    claims: Claims
    turns: Turns
    metrics_api: MetricsApi
    measurements: Measurements
    downloads: Downloads

    def forget(self, service: Key) -> None:
        """The service is gone, or another's."""
        self.metrics_api.readings.forget(service)
        self.measurements.forget(service)
        self.downloads.forget(service)
        metrics_endpoint.services.forget(service)
        self.turns.leave(service)
