"""Where the workload of a service stands: its replicas, and whether they are of the present pod template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from octavo_operator.resources import leader_worker_set, workload

Object = dict[str, Any]


@dataclass(frozen=True)
class Rollout:
    """Where a Deployment or a LeaderWorkerSet stands, in replicas. `settled`: none of a former template is left.
    `makes_room`: an old one ends before its successor starts. `short`: the StatefulSets that have not made all pods of
    groups, by name, and since when each may be there."""

    wanted: int
    existing: int
    ready: int
    settled: bool
    refusal: str | None
    makes_room: bool = False
    short: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(running: Object | None, pods: Sequence[Object] | None = None) -> "Rollout":
        """`pods`: the workload's, where they are known. The status of a LeaderWorkerSet may be of a former template,
        and does not say so: its leaders do."""
        if running is None:
            return NOTHING
        if running["kind"] == workload.LEADER_WORKER_SET:
            return _of_groups(running, pods)
        status = running.get("status", {})
        existing = status.get("replicas", 0)
        seen = status.get("observedGeneration", 0) >= running["metadata"]["generation"]
        refusals = [
            condition.get("message", "")
            for condition in status.get("conditions", [])
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        ]
        return Rollout(
            wanted=running["spec"].get("replicas", 1),
            existing=existing,
            ready=status.get("readyReplicas", 0),
            settled=seen and status.get("updatedReplicas", 0) == existing,
            refusal=refusals[0] if refusals else None,
            makes_room=running["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge") == 0,
        )

    @property
    def is_complete(self) -> bool:
        """Whether every pod that is wanted is of the present template, and answers."""
        return self.settled and self.existing == self.wanted == self.ready


NOTHING = Rollout(wanted=0, existing=0, ready=0, settled=False, refusal=None)
"""Where there is no workload."""


def _of_groups(running: Object, pods: Sequence[Object] | None) -> Rollout:
    spec, status_ = running["spec"], running.get("status", {})
    leaders = [pod for pod in pods or [] if leader_worker_set.leads(pod)]
    updated = status_.get("updatedReplicas", 0) == status_.get("replicas", 0)
    surge = spec["rolloutStrategy"]["rollingUpdateConfiguration"].get("maxSurge", 0)
    wanted = spec.get("replicas", 1)
    settled = "conditions" in status_ and updated and all(leader_worker_set.is_current(pod, running) for pod in leaders)
    return Rollout(
        wanted=wanted,
        existing=status_.get("replicas", 0),
        ready=status_.get("readyReplicas", 0),
        settled=settled,
        refusal=None,
        makes_room=surge == 0,
        short=_short(running, pods or [], wanted if settled or not wanted else wanted + surge),
    )


def _short(running: Object, pods: Sequence[Object], groups: int) -> dict[str, str]:
    """One of the set's own name makes the leaders, and one of each leader's name that group's workers."""
    own, workers = running["metadata"], running["spec"]["leaderWorkerTemplate"]["size"] - 1
    leaders = [pod["metadata"] for pod in pods if leader_worker_set.leads(pod)]
    names = [pod["metadata"]["name"] for pod in pods]
    short = {own["name"]: own.get("creationTimestamp", "")} if len(leaders) < groups else {}
    for leader in leaders:
        if "deletionTimestamp" in leader:
            continue  # it outlives its workers, and gets no others
        if sum(name.startswith(f"{leader['name']}-") for name in names) < workers:
            short[leader["name"]] = leader["creationTimestamp"]
    return short
