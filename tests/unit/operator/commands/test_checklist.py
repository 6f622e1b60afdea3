"""Each item of `octavo check` passes, warns, fails or is unknown by what is seen, and says what to do."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from known import condition, healthy, loaded, pod

from octavo_operator.api.label_selector import selects
from octavo_operator.cluster import Reply
from octavo_operator.commands import checklist
from octavo_operator.commands.checklist.outcome import Outcome
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.trial import Trial
from octavo_runtime.protocol import metrics

GPU = {"accelerator": {"type": "nvidia"}}
KEYS = {"endpoint": {"apiKeysSecret": {"name": "keys"}}}
STREAM = (
    "".join(f'data: {{"choices": [{{"text": "{each}"}}]}}\n\n' for each in range(31))
    + 'data: {"choices": [], "usage": {"completion_tokens": 31}}\n\ndata: [DONE]\n\n'
)
ANSWERED = {
    "models": Reply(200, '{"data": [{"id": "m"}]}', 0.1, 0.1),
    "completion": Reply(200, '{"choices": [{"text": " there was"}]}', 0.2, 0.2),
    "chat": Reply(200, '{"choices": [{"message": {"content": "hello"}}]}', 0.2, 0.2),
    "stream": Reply(200, STREAM, 0.5, 3.5),
    "unknown model": Reply(404, "{}", 0.1, 0.1),
    "invalid": Reply(400, "{}", 0.1, 0.1),
    "keyless": Reply(400, "{}", 0.1, 0.1),
    "reference": Reply(200, '{"paths": {"/v1/models": {}}}', 0.1, 0.1),
}
WELL = Trial(ANSWERED)
DOWN = Trial(troubles=dict.fromkeys(ANSWERED, 'no endpoints available for service "chat"'))
NO_RIGHT = Trial(troubles=dict.fromkeys(ANSWERED, "missing right: create services/proxy"))


_COMMON = ("unknown model", "invalid", "keyless", "reference")
EMBEDS = Trial(
    {what: ANSWERED[what] for what in _COMMON}
    | {
        "models": Reply(200, '{"data": [{"id": "m", "task": "embed"}]}', 0.1, 0.1),
        "reading": Reply(200, '{"data": [{"embedding": [0.5, 0.5, 0.25]}]}', 0.2, 0.2),
    },
    task="embed",
)
SCORES = replace(
    EMBEDS,
    replies=EMBEDS.replies | {"reading": Reply(200, '{"data": [{"label": "joy", "probs": [0.9, 0.1]}]}', 0.2, 0.2)},
    task="score",
)
MUTE = replace(EMBEDS, replies=EMBEDS.replies | {"reading": Reply(503, "loading", 6, 6)})


def answering(**replies: Reply) -> Trial:
    return Trial(ANSWERED | replies)


def with_lists(**lists: Any) -> Evidence:
    return replace(healthy(), lists=lists)


def without(*kinds: str) -> Evidence:
    evidence = healthy()
    return replace(evidence, owned={kind: each for kind, each in evidence.owned.items() if kind not in kinds})


def selecting(selector: dict[str, str] | None) -> Evidence:
    """With a Service that somebody else gave this selector."""
    evidence = healthy()
    live = copy.deepcopy(evidence.owned["Service"])
    live["spec"]["selector"] = selector
    return replace(evidence, owned={**evidence.owned, "Service": live})


def annotated(**metadata: Any) -> Evidence:
    evidence = healthy()
    return replace(evidence, body=evidence.body | {"metadata": evidence.body["metadata"] | metadata})


def with_condition(evidence: Evidence, *said: str) -> Evidence:
    body = copy.deepcopy(evidence.body)
    body["status"]["conditions"].append(condition("ScalingActive", *said))
    return replace(evidence, body=body)


AUTOSCALED = healthy(autoscaling={"maxReplicas": 4})
ON_ONE_NODE = replace(healthy(), pods=[pod(f"chat-{n}", healthy().owned["Deployment"], node="a") for n in (1, 2)])
UNSEEN = replace(healthy(), pods=[], unread={"Pod": "missing right: list pods"})
HALF_UP = replace(healthy(), pods=healthy().pods[:1])
TO_PODS = {"spec": {"selector": {"matchLabels": {"serving.octavo.dev/service": "chat"}}}, "metadata": {"name": "p"}}
TO_OTHERS = {"spec": {"selector": {"matchLabels": {"serving.octavo.dev/service": "other"}}}, "metadata": {"name": "o"}}
RULE = {
    "metadata": {"name": "slow"},
    "spec": {"groups": [{"rules": [{"alert": "Slow", "expr": "octavo_requests_waiting > 9"}, {"record": "x"}]}]},
}
OF_ANOTHER = {**RULE, "metadata": {"name": "slow", "labels": {"serving.octavo.dev/service": "other"}}}
BOARD = {"metadata": {"name": "octavo-fleet"}, "data": {"fleet.json": "sum(octavo_requests_running)"}}
FROM_ELSEWHERE = {**TO_PODS, "metadata": {"name": "fleet", "namespace": "octavo"}}
FOR_ALL = {**FROM_ELSEWHERE, "spec": TO_PODS["spec"] | {"namespaceSelector": {"any": True}}}
POLICY = {"metadata": {"name": "callers"}, "spec": {"podSelector": {}}}
SLOW = {metrics.REQUEST_DURATION: {"300.0": 0, "600.0": 10, "+Inf": 10}}
USAGE, WAITING, RUNNING = metrics.KV_CACHE_USAGE_RATIO, metrics.REQUESTS_WAITING, metrics.REQUESTS_RUNNING

# The item, what is known, what was answered -> the verdict, and words of the evidence or the fix.
CASES: list[tuple[str, str, Evidence, Trial, str, str]] = [
    ("performance", "speed", healthy(), WELL, "pass", "first token after 500 ms, then 10.0 tokens/s"),
    ("performance", "speed", healthy(), answering(stream=Reply(200, STREAM, 6, 9)), "warn", "octavo why"),
    ("performance", "speed", healthy(), DOWN, "fail", "no endpoints available"),
    ("performance", "speed", healthy(), EMBEDS, "pass", "a short text is read in 200 ms"),
    ("performance", "speed", healthy(), MUTE, "fail", "HTTP 503: loading"),
    ("tests", "completion", healthy(), EMBEDS, "pass", "an embedding of 3 numbers in 0.2 s"),
    ("tests", "completion", healthy(), SCORES, "pass", "label 'joy' of 2 in 0.2 s"),
    ("tests", "completion", healthy(), MUTE, "fail", "HTTP 503: loading"),
    ("tests", "completion", healthy(), replace(EMBEDS, task="score"), "fail", "HTTP 200 with another body"),
    ("tests", "chat", healthy(), EMBEDS, "pass", "made to embed"),
    ("tests", "streaming", healthy(), SCORES, "pass", "made to score"),
    ("performance", "speed", healthy(), NO_RIGHT, "unknown", "missing right: create services/proxy"),
    ("performance", "speed", healthy(), answering(stream=Reply(401, "", 0, 0)), "unknown", "--api-key"),
    ("performance", "speed", healthy(), answering(stream=Reply(500, "it broke", 0, 0)), "fail", "HTTP 500: it broke"),
    ("performance", "memory share", healthy(**GPU), WELL, "pass", "gpuMemoryUtilization 0.9"),
    ("performance", "memory share", healthy(engine={"gpuMemoryUtilization": 0.5}, **GPU), WELL, "warn", "0.85 to 0.95"),
    ("performance", "memory share", healthy(), WELL, "pass", "runs on the CPU"),
    ("performance", "sequences", loaded(healthy(), {WAITING: 2, RUNNING: 64}), WELL, "warn", "maxNumSeqs: 128"),
    ("performance", "sequences", loaded(healthy(), {RUNNING: 4}), WELL, "pass", "8 requests run and 0 wait on 2 pods"),
    ("performance", "KV headroom", loaded(healthy(), {USAGE: 0.5}), WELL, "pass", "50% full"),
    ("performance", "KV headroom", loaded(healthy(), {USAGE: 0.85}), WELL, "warn", "quantized"),
    ("performance", "KV headroom", loaded(healthy(), {USAGE: 0.99}), WELL, "fail", "99% full"),
    ("performance", "KV headroom", replace(healthy(), samples={}), WELL, "fail", "no pod runs"),
    ("performance", "length bound", healthy(engine={"maxModelLen": 4096}), WELL, "pass", "maxModelLen 4096"),
    ("performance", "devices", healthy(**GPU), WELL, "pass", "1 GPU for each of 2 pods"),
    ("performance", "block size", healthy(engine={"blockSize": 128}), WELL, "warn", "8 to 32"),
    ("monitoring", "metrics", healthy(), WELL, "pass", "2 of 2 pods"),
    (
        "monitoring", "metrics",
        replace(healthy(), samples={}, unread={"metrics": "missing right: get pods/proxy"}), WELL,
        "unknown", "missing right: get pods/proxy",
    ),
    ("monitoring", "scraped", with_lists(PodMonitor=[TO_OTHERS, TO_PODS]), WELL, "pass", "PodMonitor p"),
    ("monitoring", "scraped", with_lists(PodMonitor=[FOR_ALL]), WELL, "pass", "PodMonitor fleet"),
    ("monitoring", "scraped", with_lists(PodMonitor=[FROM_ELSEWHERE]), WELL, "warn", "prometheus.io"),
    ("monitoring", "scraped", with_lists(PodMonitor=[TO_OTHERS]), WELL, "warn", "prometheus.io"),
    ("monitoring", "dashboard", healthy(observability={"dashboard": True}), WELL, "pass", "chat-dashboard"),
    ("monitoring", "dashboard", with_lists(dashboards=[BOARD]), WELL, "pass", "octavo-fleet, of all services"),
    ("monitoring", "dashboard", healthy(), WELL, "warn", "spec.observability.dashboard"),
    ("monitoring", "alerts", with_lists(PrometheusRule=[RULE]), WELL, "pass", "slow: 1 alerts"),
    ("monitoring", "alerts", with_lists(PrometheusRule=[]), WELL, "warn", "no alert"),
    ("monitoring", "alerts", with_lists(PrometheusRule=[OF_ANOTHER]), WELL, "warn", "no alert"),
    ("monitoring", "alerts", healthy(), WELL, "warn", "does not know PrometheusRule"),
    ("monitoring", "logs", healthy(), WELL, "pass", "JSON"),
    ("availability", "replicas", healthy(), WELL, "pass", "2 of 2 pods answer"),
    ("availability", "replicas", HALF_UP, WELL, "fail", "1 of 2 pods answer"),
    ("availability", "load balancing", healthy(), WELL, "pass", "ClusterIP"),
    ("availability", "load balancing", replace(healthy(), pods=[]), DOWN, "fail", "to no pod, since none answers"),
    (
        "availability", "load balancing", selecting({"app": "x", "tier": "y"}), WELL,
        "fail", "leads to none of the 2 pods that answer: its spec.selector is app=x,tier=y",
    ),
    ("availability", "load balancing", UNSEEN, WELL, "unknown", "missing right: list pods"),
    ("availability", "load balancing", selecting(None), WELL, "fail", "its spec.selector is none"),
    ("availability", "load balancing", without("Service"), WELL, "fail", "no Service chat"),
    ("availability", "disruption budget", healthy(), WELL, "pass", "maxUnavailable 1"),
    ("availability", "disruption budget", without("PodDisruptionBudget"), WELL, "fail", "no PodDisruptionBudget"),
    ("availability", "spread", healthy(), WELL, "pass", "2 nodes"),
    ("availability", "spread", ON_ONE_NODE, WELL, "warn", "another node"),
    ("availability", "probes", healthy(), WELL, "pass", "startupProbe, livenessProbe, readinessProbe"),
    ("availability", "autoscaling", healthy(), WELL, "warn", "spec.autoscaling"),
    ("availability", "autoscaling", with_condition(AUTOSCALED, "True", "MetricsFound"), WELL, "pass", "1 to 4 pods"),
    ("availability", "autoscaling", with_condition(AUTOSCALED, "False", "NoMetric"), WELL, "fail", "NoMetric"),
    ("availability", "autoscaling", AUTOSCALED, WELL, "unknown", "has not looked yet"),
    ("availability", "drain", healthy(), WELL, "pass", "rollout.drain 300s"),
    ("availability", "drain", loaded(healthy(), SLOW), WELL, "warn", "a longer rollout.drain"),
    ("security", "API keys", healthy(), WELL, "warn", "spec.endpoint.apiKeysSecret"),
    ("security", "API keys", healthy(endpoint={"ingress": {"host": "a.b"}}), WELL, "fail", "ClusterIP, ingress"),
    ("security", "API keys", healthy(endpoint={"type": "LoadBalancer"}), WELL, "fail", "LoadBalancer"),
    ("security", "API keys", healthy(**KEYS), answering(keyless=Reply(401, "", 0, 0)), "pass", "got HTTP 401"),
    ("security", "API keys", healthy(**KEYS), WELL, "fail", "a request without a key got HTTP 400"),
    ("security", "API keys", healthy(**KEYS), NO_RIGHT, "unknown", "missing right"),
    ("security", "rate limits", healthy(), WELL, "warn", "spec.endpoint.rateLimit"),
    (
        "security", "rate limits",
        healthy(endpoint={"rateLimit": {"tokensPerMinute": 9}}), WELL,
        "pass", "tokensPerMinute 9",
    ),
    ("security", "inputs", healthy(), WELL, "pass", "got HTTP 400"),
    ("security", "inputs", healthy(), answering(invalid=Reply(200, "", 0, 0)), "fail", "got HTTP 200"),
    ("security", "personal data", healthy(), WELL, "pass", "not logged"),
    ("security", "personal data", healthy(engine={"extraArgs": ["--log-prompts"]}), WELL, "warn", "--log-prompts"),
    ("security", "TLS", healthy(), WELL, "warn", "spec.endpoint.tlsSecret"),
    ("security", "TLS", healthy(endpoint={"type": "LoadBalancer"}), WELL, "fail", "plain HTTP"),
    ("security", "TLS", healthy(endpoint={"tlsSecret": {"name": "tls"}}), WELL, "pass", "Secret tls"),
    ("security", "pods", healthy(), WELL, "pass", "restricted"),
    ("security", "namespace", healthy(), WELL, "warn", "kubectl label namespace default"),
    (
        "security", "namespace",
        replace(healthy(), labels={"pod-security.kubernetes.io/enforce": "restricted"}), WELL,
        "pass", "enforces restricted",
    ),
    ("security", "network", with_lists(NetworkPolicy=[]), WELL, "warn", "every pod of the cluster may call"),
    ("security", "network", with_lists(NetworkPolicy=[POLICY]), WELL, "pass", "callers"),
    ("security", "image", healthy(), WELL, "pass", "octavo/runtime:1, by a tag"),
    ("security", "image", healthy(image="r.example.com:5000/octavo"), WELL, "fail", "tomorrow"),
    ("security", "image", healthy(image="octavo/runtime:latest"), WELL, "fail", "tomorrow"),
    ("security", "image", healthy(image=f"octavo/runtime@sha256:{'0' * 64}"), WELL, "pass", "by its digest"),
    ("security", "secrets", healthy(), WELL, "pass", "names none"),
    ("security", "secrets", replace(healthy(), secrets={"keys": False}), WELL, "fail", "no Secret keys"),
    (
        "security", "secrets",
        replace(healthy(**KEYS), pods=[], unread={"Secret": "missing right: get secrets"}), WELL,
        "unknown", "missing right: get secrets",
    ),
    ("tests", "completion", healthy(), WELL, "pass", "'there was' in 0.2 s"),
    ("tests", "completion", healthy(), answering(completion=Reply(200, "<html>", 0, 0)), "fail", "another body"),
    ("tests", "chat", healthy(), WELL, "pass", "'hello'"),
    ("tests", "chat", healthy(), answering(chat=Reply(400, "no chat template", 0, 0)), "warn", "engine.chatTemplate"),
    ("tests", "streaming", healthy(), WELL, "pass", "32 events in 3.5 s"),
    ("tests", "streaming", healthy(), answering(stream=Reply(200, "data: {}\n", 0, 1)), "fail", "broke off"),
    ("tests", "refusal", healthy(), WELL, "pass", "got HTTP 404"),
    ("tests", "way back", annotated(annotations={"argocd.argoproj.io/tracking-id": "x"}), WELL, "pass", "argocd"),
    ("tests", "way back", healthy(), WELL, "warn", "version control"),
    ("documents", "API reference", healthy(), WELL, "pass", "/docs shows 1 paths"),
    ("documents", "owner", healthy(), WELL, "warn", "kubectl annotate llmservice chat serving.octavo.dev/owner="),
    ("documents", "owner", annotated(annotations={"serving.octavo.dev/owner": "team-a"}), WELL, "pass", "team-a"),
]  # fmt: skip


def outcome(evidence: Evidence, trial: Trial, section: str, name: str) -> Outcome:
    (found,) = (each for each in checklist.items(evidence, trial) if (each.section, each.name) == (section, name))
    return found.outcome


@pytest.mark.parametrize(("section", "name", "evidence", "trial", "verdict", "words"), CASES)
def test_an_item_says_what_is_seen_and_what_to_do(
    section: str, name: str, evidence: Evidence, trial: Trial, verdict: str, words: str
) -> None:
    found = outcome(evidence, trial, section, name)
    assert words in f"{found.evidence}\n{found.fix}"
    assert found.verdict == verdict, found
    assert (found.fix == "") == (verdict == "pass") or verdict == "unknown"


@pytest.mark.parametrize("trial", [WELL, DOWN, NO_RIGHT, EMBEDS, SCORES])
def test_no_item_is_left_out_whatever_is_known(trial: Trial) -> None:
    bare = Evidence(healthy().body, None, healthy().now)
    for evidence in (bare, healthy(), healthy(**GPU)):
        assert len(checklist.items(evidence, trial)) == sum(len(each) for each in checklist.SECTIONS.values())


def test_what_restricted_forbids_is_named() -> None:
    evidence = healthy()
    template = copy.deepcopy(evidence.owned["Deployment"])
    template["spec"]["template"]["spec"]["hostNetwork"] = True
    found = outcome(replace(evidence, owned={**evidence.owned, "Deployment": template}), WELL, "security", "pods")
    assert (found.verdict, found.evidence) == ("fail", "hostNetwork: must be false, got true")


@pytest.mark.parametrize(
    ("selector", "takes"),
    [
        ({}, True),
        ({"matchLabels": {"app": "a"}}, True),
        ({"matchLabels": {"app": "b"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_a_selector_takes_what_kubernetes_would(selector: dict[str, Any], takes: bool) -> None:
    assert selects(selector, {"app": "a"}) == takes
