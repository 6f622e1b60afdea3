"""Whether a rollout finds a GPU for one pod more. Nobody but the scheduler knows: it weighs taints, affinity, rank and
what other pods hold. So a rollout begins with a new pod, and what the scheduler says of that first one decides; each
after it gets the GPU of the one that it replaces. The answer stays for that rollout: it stands in the workload's own
strategy."""

from collections.abc import Sequence
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.api.accelerator import GPU
from octavo_operator.resources import workload
from octavo_operator.resources.leader_worker_set import REVISION
from octavo_operator.status import diagnosis
from octavo_operator.status.condition import is_true
from octavo_operator.status.conditions import NO_SPARE_GPU
from octavo_operator.status.rollout import Rollout

Object = dict[str, Any]


def lacks_gpu(service: LLMService, running: Object | None, pods: Sequence[Object], status: Object) -> bool | None:
    """Whether the rollout that goes on has met a want of GPUs; None where nobody asks: without GPUs, where the spec
    says by itself who goes first, and of a single group of pods, which always does. `pods`: the workload's; `status`:
    the service's, as it was told last."""
    if service.spec.accelerator.type != "nvidia" or service.spec.rollout.strategy != "auto":
        return None
    rollout = Rollout.of(running, pods)
    are_groups = running is not None and running["kind"] == workload.LEADER_WORKER_SET
    if are_groups and rollout.wanted <= 1:
        return None
    if running is None or rollout.settled:
        return False
    by_quota = f"{GPU}=" in (rollout.refusal or "") and "exceeded quota" in (rollout.refusal or "")
    # Groups may make room for another reason, see leader_worker_set.
    met = rollout.makes_room and (not are_groups or is_true(status, NO_SPARE_GPU))
    return met or by_quota or _first_finds_none(pods)


def stays_making_room(running: Object | None, pods: Sequence[Object]) -> bool:
    """Whether a rollout of groups goes on in which one ends before its successor: LeaderWorkerSet would stand still
    where that changes in the middle."""
    if running is None or running["kind"] != workload.LEADER_WORKER_SET:
        return False
    rollout = Rollout.of(running, pods)
    return rollout.makes_room and not rollout.settled


def _first_finds_none(pods: Sequence[Object]) -> bool:
    """Whether there is no GPU for the first pod of a template; what is being deleted will leave one."""
    placed = {_template(pod) for pod in pods if "nodeName" in pod["spec"]}
    leaving = any("deletionTimestamp" in pod["metadata"] for pod in pods)
    return not leaving and any(diagnosis.finds_no_gpu(pod) and _template(pod) not in placed for pod in pods)


def _template(pod: Object) -> str:
    labels = pod["metadata"]["labels"]
    return str(labels.get("pod-template-hash") or labels[REVISION])
