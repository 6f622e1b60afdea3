"""Evidence as the tests of rules and checklist want it: a healthy service of two pods, and what differs."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from built import built, service

from octavo_operator.commands.evidence import Evidence, Log
from octavo_runtime.protocol import metrics
from octavo_runtime.top.sample import Sample, Series

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
Object = dict[str, Any]


def healthy(**spec: Any) -> Evidence:
    """`spec` as in built.service."""
    spec.setdefault("replicas", 2) if "autoscaling" not in spec else None
    full = {"model": {"uri": "builtin://smollm2"}} | spec
    owned = {kind: built(kind, **spec) for kind in ("Deployment", "Service", "PodDisruptionBudget")}
    if "observability" in spec:
        owned["ConfigMap"] = built("ConfigMap", **spec)
    owned["Deployment"]["spec"]["replicas"] = 2
    owned["Deployment"]["metadata"] |= {"generation": 1, "creationTimestamp": "2026-01-01T10:00:00Z"}
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), 2)
    owned["Deployment"]["status"] = {"observedGeneration": 1, "conditions": []} | counts
    body = {
        "metadata": {
            "namespace": "default",
            "name": "chat",
            "uid": "u1",
            "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": full,
        "status": {"observedGeneration": 3, "conditions": [condition("Ready", "True", "Serving", "2 of 2 answer")]},
    }
    pods = [pod("chat-1", owned["Deployment"], node="a"), pod("chat-2", owned["Deployment"], node="b")]
    return Evidence(body, service(**spec), NOW, owned, pods, samples=told(pods))


def condition(type_: str, status: str, reason: str, message: str = "") -> Object:
    since = {"lastTransitionTime": "2026-01-01T10:00:00Z"}
    return {"type": type_, "status": status, "reason": reason, "message": message} | since


def pod(name: str, deployment: Object, node: str = "a", ready: bool = True, **engine: Any) -> Object:
    """A pod of the Deployment's template; `engine`: what the kubelet says of its container."""
    template = deployment["spec"]["template"]
    state = {"name": "engine", "image": "octavo/runtime:1", "restartCount": 0, "state": {"running": {}}} | engine
    return {
        "metadata": template["metadata"]
        | {"namespace": "default", "name": name, "creationTimestamp": "2026-01-01T10:00:00Z"},
        "spec": template["spec"] | {"nodeName": node},
        "status": {
            "phase": "Running",
            "conditions": [condition("Ready", str(ready), "")],
            "containerStatuses": [state],
        },
    }


def told(pods: list[Object], before: Object | None = None, after: Object | None = None) -> dict[str, Any]:
    """Two looks ten seconds apart at each pod's metrics: values by metric, or by (metric, label's value)."""
    return {
        each["metadata"]["name"]: (Sample(100.0, "", series(before or {})), Sample(110.0, "", series(after or {})))
        for each in pods
    }


def series(values: Object) -> Series:
    found: Series = {metrics.REQUESTS_RUNNING.name: [({"model_name": "m"}, 0.0)]}
    found[metrics.CACHE_CONFIG_INFO.name] = [({"block_size": "16", "num_gpu_blocks": "100"}, 1.0)]
    for metric, value in values.items():
        if isinstance(value, dict) and metric.type == "histogram":
            found[f"{metric.name}_bucket"] = [({"le": str(bound)}, count) for bound, count in value.items()]
        elif isinstance(value, dict):
            (label, *_) = [label for label in metric.labels if label in ("status", "mode", "gpu")]
            found[metric.name] = [({label: key}, count) for key, count in value.items()]
        else:
            found[metric.name] = [({"model_name": "m"}, value)]
    return found


def loaded(evidence: Evidence, after: Object, before: Object | None = None) -> Evidence:
    """The same with this load on each pod."""
    return replace(evidence, samples=told(list(evidence.pods), before, after))


def in_trouble(
    evidence: Evidence, log: Log | None = None, events: list[Object] | None = None, **engine: Any
) -> Evidence:
    """The same with one pod that does not answer, which is all there is."""
    broken = pod("chat-1", evidence.owned["Deployment"], ready=False, **engine)
    logs = {"chat-1": log} if log else {}
    said = {("Pod", "chat-1"): events} if events else {}
    return replace(evidence, pods=[broken], samples={}, logs=logs, events=said)
