"""The API over real TLS: who is answered, and what."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from authority import Authority, authority
from live import free_port
from patience import eventually_async

from octavo_operator.api.targets import TARGETS
from octavo_operator.certificates import certificate
from octavo_operator.metrics_api import server
from octavo_operator.metrics_api.server import OFF, MetricsApi
from octavo_operator.scraping.exposition import read
from octavo_operator.scraping.readings import Readings

Object = dict[str, Any]
API = "/apis/custom.metrics.k8s.io/v1beta2"
PODS = f"{API}/namespaces/default/pods"
USER = {"X-Remote-User": "system:serviceaccount:kube-system:horizontal-pod-autoscaler"}
BY_FIELD = {target.field: target for target in TARGETS}


class FakeCluster:
    """What an API server with a front proxy holds, and the chart's Secret."""

    def __init__(self, trusted: Authority | None) -> None:
        said = {
            "requestheader-client-ca-file": trusted.path.read_text() if trusted else "",
            "requestheader-allowed-names": '["front-proxy-client"]',
            "requestheader-username-headers": '["X-Remote-User"]',
        }
        self.objects: dict[str, Object] = {
            "ConfigMap": {"data": said},
            "Secret": {"metadata": {"name": "m"}},
            "ClusterRole": {"metadata": {"name": "o-m", "uid": "r"}},
        }

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        return None if name.startswith("v1beta1.") else self.objects.get(kind)

    async def create(self, content: Object) -> None:
        available = {"conditions": [{"type": "Available", "status": "True"}]}
        self.objects[content["kind"]] = content | {"status": available}

    async def merge(self, live: Object, content: Object) -> None:
        live |= content

    @property
    def files(self) -> dict[str, bytes]:
        return {key: base64.b64decode(value) for key, value in self.objects["Secret"].get("data", {}).items()}


def readings() -> Readings:
    made = Readings(lambda: 1_800_000_000.0)
    pods = [
        {
            "metadata": {"name": name, "labels": {"app": name}},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }
        for name in ("chat-1", "chat-2")
    ]
    targets = (BY_FIELD["queue_depth"], BY_FIELD["kv_cache_usage"], BY_FIELD["gpu_utilization"])
    made.watch(("default", "chat"), targets, pods)
    for source, waiting in zip(made.due(), (3, 4), strict=True):
        made.heard(source, read(f"octavo_requests_waiting {waiting}\noctavo_kv_cache_usage_ratio 0.25\n", targets))
    return made


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return authority(tmp_path, "front-proxy-ca")


class Served:
    def __init__(self, port: int, cluster: FakeCluster, told: list[tuple[str, str]], api: MetricsApi) -> None:
        self.port, self.cluster, self.told, self.api = port, cluster, told, api

    async def get(
        self, path: str, client: tuple[Path, Path] | None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        context = ssl.create_default_context(cadata=self.cluster.files[certificate.AUTHORITY].decode())
        if client is not None:
            context.load_cert_chain(*client)
        async with (
            aiohttp.ClientSession(headers=USER if headers is None else headers) as session,
            session.get(f"https://127.0.0.1:{self.port}{path}", ssl=context, server_hostname="m.o.svc") as response,
        ):
            return response.status, json.loads(await response.text())


@contextlib.asynccontextmanager
async def serving(trusted: Authority | None, made: Readings) -> AsyncIterator[Served]:
    cluster, port, told = FakeCluster(trusted), free_port(), list[tuple[str, str]]()
    api = MetricsApi(cluster, made, "o/m", port, lambda *key: told.append(key))
    task = asyncio.create_task(api.keep())
    try:
        yield Served(port, cluster, told, api)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_front_proxy_is_answered_with_a_value_for_each_pod(trusted: Authority) -> None:
    proxy = trusted.sign("front-proxy-client")
    async with serving(trusted, readings()) as served:
        await eventually_async(lambda: served.api.trouble is None, lambda: served.api.trouble)
        assert ("default", "chat") in served.told, "the service that waits is looked at"
        status, answer = await served.get(f"{PODS}/*/octavo_requests_waiting", proxy)
        assert (status, answer["kind"], answer["apiVersion"]) == (
            200,
            "MetricValueList",
            "custom.metrics.k8s.io/v1beta2",
        )
        values = {item["describedObject"]["name"]: item["value"] for item in answer["items"]}
        assert values == {"chat-1": "3", "chat-2": "4"}
        assert answer["items"][0]["metric"]["name"] == "octavo_requests_waiting"
        _, answer = await served.get(f"{PODS}/*/octavo_kv_cache_usage_ratio?labelSelector=app=chat-2", proxy)
        assert [item["value"] for item in answer["items"]] == ["250m"]
        _, answer = await served.get(f"{PODS}/chat-1/octavo_requests_waiting", proxy)
        assert [item["value"] for item in answer["items"]] == ["3"]
        _, answer = await served.get(API, proxy)
        assert {item["name"] for item in answer["resources"]} == {f"pods/{target.name}" for target in TARGETS}
        _, answer = await served.get("/apis/custom.metrics.k8s.io", proxy)
        assert answer["preferredVersion"]["version"] == "v1beta2"


async def test_others_are_refused(trusted: Authority, tmp_path: Path) -> None:
    proxy, person = trusted.sign("front-proxy-client"), trusted.sign("admin")
    (tmp_path / "other").mkdir()
    stranger = authority(tmp_path / "other", "stranger").sign("front-proxy-client")
    async with serving(trusted, readings()) as served:
        await eventually_async(lambda: served.api.trouble is None, lambda: served.api.trouble)
        path = f"{PODS}/*/octavo_requests_waiting"
        for client, headers, expected in ((None, USER, 401), (person, USER, 403), (proxy, {}, 401)):
            status, answer = await served.get(path, client, headers)
            assert (status, answer["kind"], answer["code"]) == (expected, "Status", expected)
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await served.get(path, stranger)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("octavo_gpu_utilization_ratio", 404, "pod chat-1 has no GPU"),
        ("octavo_none", 404, "there is no metric octavo_none"),
        ("octavo_requests_running", 404, "it is of no service whose targets have this metric"),
        ("octavo_requests_waiting?labelSelector=app+in+x", 400, "labelSelector must be"),
        ("octavo_requests_waiting?metricLabelSelector=a%3Db", 400, "metricLabelSelector"),
    ],
)
async def test_why_there_is_no_value_is_said(trusted: Authority, path: str, status: int, words: str) -> None:
    async with serving(trusted, readings()) as served:
        await eventually_async(lambda: served.api.trouble is None, lambda: served.api.trouble)
        found, answer = await served.get(f"{PODS}/*/{path}", trusted.sign("front-proxy-client"))
        assert found == status
        assert words in answer["message"]


async def test_new_certificates_are_taken_over_by_both_sides(
    trusted: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LOOK", 0.02)
    (tmp_path / "new").mkdir()
    successor = authority(tmp_path / "new", "front-proxy-ca-2")
    async with serving(trusted, readings()) as served:
        await eventually_async(lambda: served.api.trouble is None, lambda: served.api.trouble)
        former = served.cluster.files
        served.cluster.objects["Secret"]["data"] = {}
        served.cluster.objects["ConfigMap"]["data"]["requestheader-client-ca-file"] = successor.path.read_text()

        async def status(client: tuple[Path, Path]) -> int:
            try:
                return (await served.get(API, client))[0]
            except (aiohttp.ClientError, OSError):
                return 0

        await eventually_async(lambda: served.cluster.files, "the Secret is filled anew")
        proxy = successor.sign("front-proxy-client")
        while await status(proxy) != 200:
            await asyncio.sleep(0.02)
        assert served.cluster.files[certificate.AUTHORITY] != former[certificate.AUTHORITY]
        registered = served.cluster.objects["APIService"]["spec"]["caBundle"]
        assert base64.b64decode(registered) == served.cluster.files[certificate.AUTHORITY]
        assert await status(trusted.sign("front-proxy-client")) == 0


async def test_nothing_is_served_or_registered_before_a_service_asks(trusted: Authority) -> None:
    idle = Readings()
    async with serving(trusted, idle) as served:
        await asyncio.sleep(0.2)
        assert set(served.cluster.objects) == {"ConfigMap", "Secret", "ClusterRole"}
        assert served.cluster.files == {}
        idle.watch(("default", "chat"), (BY_FIELD["queue_depth"],), [])
        await eventually_async(lambda: "APIService" in served.cluster.objects, lambda: served.api.trouble)


async def test_an_api_server_without_a_front_proxy_is_told(trusted: Authority) -> None:
    async with serving(None, readings()) as served:
        await eventually_async(lambda: "no aggregation layer" in (served.api.trouble or ""), lambda: served.api.trouble)


async def test_an_installation_that_does_not_serve_it_says_so() -> None:
    api = MetricsApi(FakeCluster(None), readings(), None, 0, lambda *_: None)
    await api.keep()
    assert api.trouble == OFF
    assert "metricsApi.enabled" in OFF
