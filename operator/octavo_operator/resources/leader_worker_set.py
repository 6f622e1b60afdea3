"""LeaderWorkerSet (leaderworkerset.x-k8s.io/v1): a replica is a group of pods that compute one model together. Its
leader answers clients; where one pod of a group is lost, all of the group start anew."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from octavo_operator.api import GROUP, LLMService
from octavo_operator.resources import metadata, pod_template
from octavo_operator.resources.replicas import KEPT, Replicas, rolling_update, written
from octavo_operator.settings import Settings

# What its controller writes on pods: which set, which of its groups, and which pod of that. The leader is 0.
SET = "leaderworkerset.sigs.k8s.io/name"
WORKER_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
REVISION = "leaderworkerset.sigs.k8s.io/template-revision-hash"
_EXCLUSIVE = "leaderworkerset.sigs.k8s.io/exclusive-topology"

# On leaders: of which template they are, since the status of a set does not say which of its generations it is of.
TEMPLATE = f"{GROUP}/template"


def build(service: LLMService, settings: Settings, replicas: Replicas, *, makes_room: bool) -> dict[str, Any]:
    """`makes_room`: a group ends before its successor starts."""
    accelerator = service.spec.accelerator
    leader = pod_template.build(service, settings)
    annotations = leader["metadata"].get("annotations", {})
    template: dict[str, Any] = {
        "size": accelerator.nodes,
        "restartPolicy": "RecreateGroupOnPodRestart",
        "workerTemplate": pod_template.of_worker(leader),
    }
    digest = hashlib.sha256(json.dumps([leader, template], sort_keys=True).encode()).hexdigest()[:16]
    marked = leader["metadata"] | {"annotations": annotations | {TEMPLATE: digest}}
    template["leaderTemplate"] = leader | {"metadata": marked}
    spec: dict[str, Any] = {
        "leaderWorkerTemplate": template,
        "rolloutStrategy": {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {"partition": 0, **_rolling_update(service, replicas, makes_room=makes_room)},
        },
        "startupPolicy": "LeaderCreated",  # a leader is ready once all of its group are
        # Each leader has a name of its own in DNS by a Service of its own: the set's own name is the endpoint's.
        "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
    }
    if (number := written(service, replicas)) is not None:
        spec["replicas"] = number
    owned = metadata.owned(service, service.name)
    notes = {KEPT: str(replicas.kept)} if replicas.kept is not None else {}
    if accelerator.exclusive_topology is not None:
        notes[_EXCLUSIVE] = accelerator.exclusive_topology
    if notes:
        owned["annotations"] = notes
    return {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": owned, "spec": spec}


def _rolling_update(service: LLMService, replicas: Replicas, *, makes_room: bool) -> dict[str, int]:
    """A single group, and one that is about to get others, ends before its successor whatever the strategy says:
    LeaderWorkerSet makes none beside it, and a rollout that waited for one would never go on."""
    numbers = [number for number in (replicas.present, written(service, replicas)) if number is not None]
    if makes_room or min(numbers, default=1) <= 1:
        return {"maxUnavailable": 1, "maxSurge": 0}
    return rolling_update(service, replicas, makes_room=makes_room)


def is_current(leader: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether a leader is of the present template of a set."""
    wanted = live["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["metadata"]["annotations"].get(TEMPLATE)
    return bool((leader["metadata"].get("annotations") or {}).get(TEMPLATE) == wanted)


def leads(pod: Mapping[str, Any]) -> bool:
    """Whether a pod answers clients: it is a group's leader, or of no group."""
    return bool((pod["metadata"].get("labels") or {}).get(WORKER_INDEX, "0") == "0")
