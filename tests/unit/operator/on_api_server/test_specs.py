"""Random specs, pod templates among them, held to the real validation."""

import asyncio
import datetime
import os
from collections import Counter
from typing import Any

import pytest
from fake_cluster import turns
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient
from live import SMALLEST, Kubernetes
from random_specs import specs
from random_templates import templates

from octavo_operator import kinds
from octavo_operator.cluster import Applied, Connection, Event, Refused
from octavo_operator.control.claims import Claims
from octavo_operator.control.operator import Operator
from octavo_operator.control.reconcile import reconcile
from octavo_operator.metrics_api.server import MetricsApi
from octavo_operator.scraping.downloads import Downloads
from octavo_operator.scraping.measurements import Measurements
from octavo_operator.scraping.readings import Readings
from octavo_operator.settings import Settings
from octavo_operator.status.conditions import TROUBLE

pytestmark = pytest.mark.cluster

SETTINGS = Settings(runtime_image="octavo.local/demo:1", installation="random")
METADATA = {"namespace": "kube-public", "name": "random", "uid": "1-2", "generation": 7}


class DryRun(Connection):
    """One service, made anew at each round: every write is a dry run, but the status, which is kept here."""

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self.body: dict[str, Any] = {}
        self.status: dict[str, Any] = {}

    async def get(self, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        return self.body if kind == "LLMService" else None

    async def apply(self, desired: dict[str, Any], live: dict[str, Any] | None) -> Applied:
        applied = await super().apply(desired, live)
        if desired["kind"] == "Job":
            raise Refused("a dry run makes none")  # so that the Deployment does not wait for it
        return applied

    async def write_status(self, service: dict[str, Any], status: dict[str, Any]) -> None:
        self.status = status

    async def record(self, service: dict[str, Any], event: Event) -> None:
        return

    async def _request(self, method: str, path: str, **parameters: Any) -> dict[str, Any] | None:
        return await super()._request(method, path, **parameters | ({} if method == "get" else {"dry_run": "All"}))

    async def defaulted(self, spec: dict[str, Any]) -> dict[str, Any] | None:
        """The spec as the API server would store it; None if the definition refuses it."""
        name = {"namespace": METADATA["namespace"], "name": METADATA["name"]}
        body = {"apiVersion": "serving.octavo.dev/v1alpha1", "kind": "LLMService", "metadata": name, "spec": spec}
        try:
            stored = await self._request("post", kinds.path("LLMService", METADATA["namespace"]), body=body)
        except Refused:
            return None
        assert stored is not None
        found: dict[str, Any] = stored["spec"]
        return found

    async def looked_at(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The status of a service that is stored so."""
        self.status = {}
        self.body = {
            "apiVersion": "serving.octavo.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": METADATA,
            "spec": spec,
        }
        claims = Claims(self, SETTINGS.installation, lambda: datetime.datetime.now(datetime.UTC))
        metrics_api = MetricsApi(self, Readings(), None, 0, lambda *_: None)
        operator = Operator(self, SETTINGS, claims, turns([]), metrics_api, Measurements(), Downloads())
        await reconcile(operator, METADATA["namespace"], METADATA["name"])
        return self.status


@pytest.mark.slow
def test_no_spec_leaves_a_service_without_a_status_whatever_the_api_server_says(
    api_server: Any, kubernetes: Kubernetes
) -> None:
    """Specs as they come, which a definition of an earlier day may have let through, and as this one stores them; what
    is made of them is held to the API server by dry runs."""
    outcomes: Counter[str] = Counter()

    async def connection() -> ApiClient:
        await config.load_kube_config(config_file=str(api_server.folder / "admin.kubeconfig"))
        return ApiClient()

    @given(specs | templates.map(lambda template: SMALLEST | {"podTemplate": template}))
    @hypothesis_settings(max_examples=int(os.environ.get("OCTAVO_EXAMPLES", "100")), deadline=None, database=None)
    def look(spec: dict[str, Any]) -> None:
        stored = loop.run(cluster.defaulted(spec))
        outcomes["refused by the definition" if stored is None else "stored"] += 1
        for version in (spec, stored):
            if version is None:
                continue
            status = loop.run(cluster.looked_at(version))
            conditions = {item["type"]: item for item in status["conditions"]}
            assert status["observedGeneration"] == 7
            assert all(item["observedGeneration"] == 7 and item["message"] for item in conditions.values())
            assert conditions["Ready"]["reason"] != TROUBLE, conditions["Ready"]
            outcomes[conditions["Ready"]["reason"]] += 1

    with asyncio.Runner() as loop:
        api = loop.run(connection())
        cluster = DryRun(api)
        try:
            look()
        finally:
            loop.run(api.close())
    print(dict(outcomes))
    assert {"refused by the definition", "stored", "InvalidSpec", "Refused", "Starting"} <= set(outcomes), outcomes
