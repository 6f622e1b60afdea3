"""What runs a service's pods: a Deployment, or a LeaderWorkerSet where a replica is several pods."""

from collections.abc import Iterable, Mapping
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import deployment, leader_worker_set
from octavo_operator.resources.replicas import Replicas
from octavo_operator.settings import Settings

DEPLOYMENT, LEADER_WORKER_SET = "Deployment", "LeaderWorkerSet"
KINDS = (DEPLOYMENT, LEADER_WORKER_SET)

# Where each has what its pods are made from.
_TEMPLATES = {DEPLOYMENT: ("spec", "template"), LEADER_WORKER_SET: ("spec", "leaderWorkerTemplate")}


def kind(service: LLMService) -> str:
    """Which of both a service is to have."""
    return DEPLOYMENT if service.spec.accelerator.nodes == 1 else LEADER_WORKER_SET


def build(service: LLMService, settings: Settings, replicas: Replicas, *, makes_room: bool) -> dict[str, Any]:
    """See deployment and leader_worker_set."""
    build_ = deployment.build if kind(service) == DEPLOYMENT else leader_worker_set.build
    return build_(service, settings, replicas, makes_room=makes_room)


def reference(service: LLMService) -> dict[str, str]:
    """As autoscalers name what they scale."""
    versions = {DEPLOYMENT: "apps/v1", LEADER_WORKER_SET: "leaderworkerset.x-k8s.io/v1"}
    return {"apiVersion": versions[kind(service)], "kind": kind(service), "name": service.name}


def template_path(workload: Mapping[str, Any]) -> tuple[str, ...]:
    """Where it has what its pods are made from."""
    return _TEMPLATES[workload["kind"]]


def leader_template(workload: Mapping[str, Any]) -> dict[str, Any]:
    """The template of the pods that answer clients."""
    spec = workload["spec"]
    found: dict[str, Any] = spec["template"] if "template" in spec else spec["leaderWorkerTemplate"]["leaderTemplate"]
    return found


def of(found: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The one that is there, of objects by kind."""
    return next((found[each] for each in KINDS if each in found), None)


def is_of(pod: Mapping[str, Any], workload: Mapping[str, Any]) -> bool:
    """Whether a pod is of this workload, by way of a ReplicaSet or a StatefulSet; anybody's may bear its labels."""
    name, labels = workload["metadata"]["name"], pod["metadata"].get("labels") or {}
    owners: Iterable[Mapping[str, Any]] = pod["metadata"].get("ownerReferences") or []
    if workload["kind"] == DEPLOYMENT:
        makers = [("ReplicaSet", f"{name}-{labels.get('pod-template-hash')}")]
    else:
        group = str(pod["metadata"]["name"]).removeprefix(f"{name}-").partition("-")[0]
        makers = [("StatefulSet", f"{name}-{group}")] if labels.get(leader_worker_set.SET) == name else []
        if leader_worker_set.leads(pod):
            makers = [("StatefulSet", name)]
    return any((owner["kind"], owner["name"]) in makers for owner in owners)
