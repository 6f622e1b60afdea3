"""Pod templates that are wrong, held to the real validation."""

import asyncio
import datetime
import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient
from live import SMALLEST, Kubernetes, Operator
from patience import eventually
from random_templates import templates

from octavo_operator.cluster import Connection, Event
from octavo_operator.control.claims import Claims
from octavo_operator.control.reconcile import reconcile
from octavo_operator.metrics_api.readings import Readings
from octavo_operator.metrics_api.server import MetricsApi
from octavo_operator.settings import Settings

pytestmark = pytest.mark.cluster


def test_template_that_the_api_server_refuses(operator: Operator, kubernetes: Kubernetes, name: str) -> None:
    kubernetes.apply(name, SMALLEST)
    before = eventually(lambda: kubernetes.get("deployment", name), what="the Deployment")
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"containers": [{"name": "sidecar"}]}}})
    eventually(lambda: kubernetes.reason(name) == "Refused", what="Refused")
    assert kubernetes.condition(name, "Valid")["status"] == "False"
    assert "spec.template.spec.containers[1].image" in kubernetes.condition(name, "Valid")["message"]
    after = kubernetes.get("deployment", name)
    assert after is not None
    assert after["spec"] == before["spec"]
    kubernetes.apply(name, SMALLEST | {"podTemplate": {"spec": {"noSuchField": 1}}})
    eventually(lambda: "noSuchField" in kubernetes.condition(name, "Valid")["message"], what="the field is named")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"metadata": {"annotations": {"prometheus.io/scrape": False}}}, ""),
        ({"spec": {"containers": [{"name": "engine", "env": [{"name": "A", "value": 1}]}]}}, ""),
        ({"spec": {"nodeSelector": {"gpu": True}}}, ""),
        ({"spec": {"terminationGracePeriodSeconds": "abc"}}, "terminationGracePeriodSeconds: must be a whole number"),
        ({"spec": {"containers": {"engine": {}}}}, "containers: must be a list"),
        ({"metadata": {"labels": ["a"]}}, "labels: must be a map"),
    ],
)
def test_wrong_types_in_a_template_leave_no_service_without_a_status(
    operator: Operator, kubernetes: Kubernetes, name: str, template: dict[str, Any], said: str
) -> None:
    kubernetes.apply(name, SMALLEST)
    eventually(lambda: kubernetes.reason(name) == "Starting", what="Starting")
    kubernetes.apply(name, SMALLEST | {"podTemplate": template})

    def observed() -> bool:
        service = kubernetes.get("llmservice", name) or {}
        return bool(service["status"]["observedGeneration"] == service["metadata"]["generation"] == 2)

    eventually(observed, what="a status of the present generation")
    assert kubernetes.reason(name) == ("InvalidSpec" if said else "Starting")
    if said:
        assert said in kubernetes.condition(name, "Valid")["message"]
        assert kubernetes.condition(name, "Stalled")["status"] == "True"


class DryRun(Connection):
    """One service, made anew at each round: every write is a dry run, but the status, which is kept here."""

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self.body: dict[str, Any] = {}
        self.status: dict[str, Any] = {}

    async def get(self, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        return self.body if kind == "LLMService" else None

    async def write_status(self, service: dict[str, Any], status: dict[str, Any]) -> None:
        self.status = status

    async def record(self, service: dict[str, Any], event: Event) -> None:
        return

    async def _request(self, method: str, path: str, **parameters: Any) -> dict[str, Any] | None:
        return await super()._request(method, path, **parameters | ({} if method == "get" else {"dry_run": "All"}))


@pytest.mark.slow
def test_no_template_leaves_a_service_without_a_status_whatever_the_api_server_says(
    api_server: Any, kubernetes: Kubernetes
) -> None:
    """Random templates, held to the real validation by server-side dry runs."""
    settings = Settings(runtime_image="octavo.local/demo:1", installation="random")
    outcomes: Counter[str] = Counter()

    async def connection() -> ApiClient:
        await config.load_kube_config(config_file=str(api_server.folder / "admin.kubeconfig"))
        return ApiClient()

    async def looked_at(template: Any) -> dict[str, Any]:
        metadata = {"namespace": "kube-public", "name": "random", "uid": "1-2", "generation": 7}
        cluster.body = {
            "apiVersion": "serving.octavo.dev/v1alpha1",
            "kind": "LLMService",
            "metadata": metadata,
            "spec": SMALLEST | {"podTemplate": template},
        }
        claims = Claims(cluster, settings.installation, lambda: datetime.datetime.now(datetime.UTC))
        metrics_api = MetricsApi(cluster, Readings(), None, 0, lambda *_: None)
        await reconcile(cluster, claims, metrics_api, settings, "kube-public", "random")
        return cluster.status

    @given(templates)
    @hypothesis_settings(max_examples=int(os.environ.get("OCTAVO_EXAMPLES", "100")), deadline=None, database=None)
    def look(template: Any) -> None:
        status = loop.run(looked_at(template))
        conditions = {item["type"]: item for item in status["conditions"]}
        assert status["observedGeneration"] == 7
        assert conditions["Ready"]["reason"] in ("InvalidSpec", "Refused", "Starting"), conditions["Ready"]
        assert conditions["Valid"]["message"]
        outcomes[conditions["Ready"]["reason"]] += 1

    with asyncio.Runner() as loop:
        api = loop.run(connection())
        cluster = DryRun(api)
        try:
            look()
        finally:
            loop.run(api.close())
    print(dict(outcomes))
    assert set(outcomes) == {"InvalidSpec", "Refused", "Starting"}, "each way is gone"
