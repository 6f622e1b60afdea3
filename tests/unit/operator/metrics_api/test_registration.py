"""The APIService: made once, put right, and left to whom has it already."""

import asyncio
import base64
from typing import Any

import pytest

from octavo_operator.metrics_api.registration import NAME, OLDER, register

Object = dict[str, Any]
ROLE = {"metadata": {"name": "octavo-system-octavo-metrics-api", "uid": "r1"}}


class FakeCluster:
    def __init__(self, **services: Object) -> None:
        self.services = services
        self.role: Object | None = ROLE
        self.writes: list[str] = []

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        assert namespace is None
        return self.role if kind == "ClusterRole" else self.services.get(name)

    async def create(self, content: Object) -> None:
        self.writes.append("create")
        self.services[content["metadata"]["name"]] = content

    async def merge(self, live: Object, content: Object) -> None:
        self.writes.append("merge")
        self.services[live["metadata"]["name"]] = live | {
            "metadata": live["metadata"] | content["metadata"],
            "spec": live["spec"] | content["spec"],
        }

    def register(self, authority: bytes = b"ca") -> str | None:
        self.writes.clear()
        return asyncio.run(register(self, "octavo-system", "octavo-metrics-api", authority))

    def becomes(self, available: str, message: str = "") -> None:
        condition = {"type": "Available", "status": available, "message": message}
        self.services[NAME]["status"] = {"conditions": [condition]}


def test_it_is_made_once_and_works_when_the_api_server_reaches_it() -> None:
    cluster = FakeCluster()
    assert cluster.register() is not None
    made = cluster.services[NAME]
    assert base64.b64decode(made["spec"]["caBundle"]) == b"ca"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "r1", "it goes with the chart"
    assert "yet" in (cluster.register() or "")
    cluster.becomes("False", "failing or missing response")
    assert "does not reach the operator's metrics API: failing or missing response" in (cluster.register() or "")
    cluster.becomes("True")
    assert cluster.register() is None
    assert cluster.writes == []


def test_a_new_authority_and_a_new_role_are_taken_over() -> None:
    cluster = FakeCluster()
    cluster.register()
    cluster.register(b"new")
    assert cluster.writes == ["merge"]
    assert base64.b64decode(cluster.services[NAME]["spec"]["caBundle"]) == b"new"
    cluster.role = {"metadata": ROLE["metadata"] | {"uid": "r2"}}
    cluster.register(b"new")
    assert cluster.services[NAME]["metadata"]["ownerReferences"][0]["uid"] == "r2"


@pytest.mark.parametrize("version", [NAME, OLDER])
def test_an_api_that_somebody_else_serves_is_left_alone_and_its_owner_named(version: str) -> None:
    theirs = {
        "metadata": {"name": version},
        "spec": {"service": {"namespace": "monitoring", "name": "prometheus-adapter"}},
    }
    cluster = FakeCluster(**{version: theirs})
    said = cluster.register() or ""
    assert cluster.writes == []
    for word in (version, "Service monitoring/prometheus-adapter", "provider: prometheus-adapter, or keda"):
        assert word in said


def test_without_the_charts_role_nothing_is_registered() -> None:
    cluster = FakeCluster()
    cluster.role = None
    assert "helm upgrade" in (cluster.register() or "")
    assert cluster.writes == []
