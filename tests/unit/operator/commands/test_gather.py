"""Evidence is what the API server says; what may not be read is named, and the rest is read all the same."""

import asyncio
from typing import Any

import pytest
from fake_api import FakeApi
from known import healthy

from octavo_operator import kinds
from octavo_operator.cluster import Reply, Trouble
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.gather import NoService, gather
from octavo_operator.commands.rules import findings
from octavo_runtime.protocol import metrics

METRICS = "/api/v1/namespaces/default/pods/chat-1:8000/proxy/metrics"
LOG = "/api/v1/namespaces/default/pods/chat-1/log"
KEYS = {"endpoint": {"apiKeysSecret": {"name": "keys"}}}
RUNNING = f'{metrics.REQUESTS_RUNNING.name}{{model_name="m"}} 3\n'


def api(*forbidden: str, **spec: Any) -> FakeApi:
    """A service of one pod, with a namesake's events beside its own."""
    known = healthy(**spec)
    pod = known.pods[0]
    events = [
        {"involvedObject": {"kind": "Pod", "name": of}, "reason": reason, "lastTimestamp": time}
        for of, reason, time in (
            ("chat-1", "Started", "2026-01-01T00:00:02Z"),
            ("chat-1", "Pulled", "2026-01-01T00:00:01Z"),
            ("chat-large-1", "Killing", "2026-01-01T00:00:01Z"),
        )
    ]
    objects = {
        kinds.path("LLMService", "default", "chat"): known.body,
        kinds.path("Deployment", "default", "chat"): known.owned["Deployment"],
        kinds.path("Pod", "default"): {"items": [pod]},
        kinds.path("Event", "default"): {"items": events},
        kinds.path("NetworkPolicy", "default"): {"items": []},
        "/api/v1/namespaces/default": {"metadata": {"labels": {"team": "a"}}},
    }
    fake = FakeApi(objects, *forbidden)
    fake.replies[METRICS] = Reply(200, RUNNING, 0.1, 0.1)
    fake.texts = {f"{LOG}?previous=false": "serving\n", f"{LOG}?previous=true": "died\n"}
    return fake


def gathered(fake: FakeApi, **options: Any) -> Evidence:
    options = {"surroundings": True} | options
    return asyncio.run(gather(fake, "default", "chat", 0.01, **options))  # type: ignore[arg-type]


def test_all_that_is_known_is_gathered() -> None:
    evidence = gathered(api())
    assert evidence.unread == {}
    assert [pod["metadata"]["name"] for pod in evidence.pods] == ["chat-1"]
    assert evidence.owned.keys() == {"Deployment"}
    assert [event["reason"] for event in evidence.events["Pod", "chat-1"]] == ["Pulled", "Started"]
    assert ("Pod", "chat-large-1") not in evidence.events
    assert (evidence.logs["chat-1"].current, evidence.logs["chat-1"].previous) == ("serving\n", "died\n")
    before, after = evidence.samples["chat-1"]
    assert before.total(metrics.REQUESTS_RUNNING.name) == 3
    assert after.time > before.time
    assert evidence.lists == {"NetworkPolicy": []}, "kinds that the cluster does not know are no empty lists"
    assert evidence.labels == {"team": "a"}
    assert evidence.service is not None


def test_all_that_a_service_may_own_is_gathered() -> None:
    fake = api()
    owned = kinds.owned("chat")
    fake.objects |= {
        kinds.path(kind, "default", name): {"kind": kind, "metadata": {}, "spec": {}} for kind, name in owned
    }
    assert gathered(fake).owned.keys() == {kind for kind, _ in owned}


def test_a_missing_right_is_named_and_the_rest_is_read() -> None:
    evidence = gathered(api("/log$", "/proxy/", "/secrets/", **KEYS))
    assert evidence.unread == {
        "logs": "missing right: get pods/log",
        "metrics": "missing right: get pods/proxy",
        "Secret": "missing right: get secrets",
    }
    assert evidence.secrets == {}
    assert [pod["metadata"]["name"] for pod in evidence.pods] == ["chat-1"]
    assert findings(evidence) == []


def test_surroundings_are_asked_for_by_those_who_want_them() -> None:
    evidence = gathered(api("/secrets/", "/networkpolicies$", **KEYS), surroundings=False)
    assert (evidence.lists, evidence.secrets, evidence.unread) == ({}, {}, {})


def test_a_secret_is_there_or_not() -> None:
    spec = {"endpoint": {"apiKeysSecret": {"name": "keys"}, "tlsSecret": {"name": "tls"}}}
    fake = api(**spec)
    fake.objects[kinds.path("Secret", "default", "keys")] = {"metadata": {"name": "keys"}}
    assert gathered(fake).secrets == {"keys": True, "tls": False}


def test_a_pod_with_tls_is_asked_by_https_and_with_the_key() -> None:
    fake = api(endpoint={"tlsSecret": {"name": "tls"}})
    path = "/api/v1/namespaces/default/pods/https:chat-1:8000/proxy/metrics"
    fake.replies[path] = Reply(200, RUNNING, 0.1, 0.1)
    assert gathered(fake, api_key="k").samples.keys() == {"chat-1"}
    assert [(asked, headers) for asked, _, headers in fake.asked] == [(path, {"x-api-key": "k"})] * 2


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(401, "", 0, 0), "ask for a key: --api-key"),
        (Reply(404, "", 0, 0), "pod chat-1 answers on /metrics with HTTP status 404"),
        (Reply(200, "up 1\n", 0, 0), "pod chat-1 tells no metrics of Octavo"),
        (Reply(200, "<html>{", 0, 0), "pod chat-1 tells what are no metrics"),
    ],
)
def test_metrics_that_cannot_be_read_are_named(reply: Reply, words: str) -> None:
    fake = api()
    fake.replies[METRICS] = reply
    evidence = gathered(fake)
    assert words in evidence.unread["metrics"]
    assert evidence.samples == {}


def test_without_the_service_there_is_one_line() -> None:
    fake = api()
    del fake.objects[kinds.path("LLMService", "default", "chat")]
    with pytest.raises(NoService, match="no LLMService 'chat' in namespace 'default'"):
        gathered(fake)
    with pytest.raises(NoService, match="llmservice chat: missing right: get llmservices"):
        gathered(api("/llmservices/"))


def test_an_api_server_that_does_not_answer_ends_it() -> None:
    class Silent(FakeApi):
        async def read(self, path: str, **query: str) -> Any:
            raise Trouble("no answer from the API server")

    with pytest.raises(Trouble, match="no answer"):
        gathered(Silent({}))
