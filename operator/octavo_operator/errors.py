"""Root causes: what keeps a service's pods from answering, in words that a user can act on."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from octavo_operator.resources.pod_template import CONTAINER, GPU

Pod = dict[str, Any]

_MAX_TEXT = 400


@dataclass(frozen=True)
class Problem:
    """`reason`: one CamelCase word for the Reason column; `message`: cause and remedy."""

    reason: str
    message: str


# Why a container cannot be created -> the Reason column and what to do.
_WAITING = {
    "ImagePullBackOff": ("ImagePullBackOff", "check spec.image, or the runtime image that the operator was given"),
    "ErrImagePull": ("ImagePullBackOff", "check spec.image, or the runtime image that the operator was given"),
    "ErrImageNeverPull": ("ImagePullBackOff", "load the image onto the node or allow it to be pulled"),
    "InvalidImageName": ("ImagePullBackOff", "correct spec.image"),
    "CreateContainerConfigError": ("ContainerConfigError", "check spec.model.tokenSecret and spec.podTemplate"),
    "CreateContainerError": ("ContainerConfigError", "check spec.podTemplate"),
    "RunContainerError": ("ContainerConfigError", "check spec.podTemplate"),
}

# What the scheduler misses -> what to do.
_UNSCHEDULABLE = {
    "Insufficient memory": "lower spec.resources.memory or add memory to the cluster",
    "Insufficient cpu": "lower spec.resources.cpu or add CPUs to the cluster",
    f"Insufficient {GPU}": "free a GPU, or add a node with one",
    "persistentvolumeclaim": "create the claim that spec.model.uri names, in the service's namespace",
    "unbound immediate PersistentVolumeClaims": "give the claim that spec.model.uri names a volume",
    "untolerated taint": "add a toleration in spec.podTemplate",
    "node affinity": "check nodeSelector and affinity in spec.podTemplate",
}


def root_cause(pods: Iterable[Pod]) -> Problem | None:
    """What is wrong with the first pod in trouble, newest pods first: they run what was asked for last."""
    newest_first = sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    for pod in newest_first:
        if problem := diagnose(pod):
            return problem
    return None


def diagnose(pod: Pod) -> Problem | None:
    """What is wrong with a pod; None if it answers, is on its way, or is being deleted."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    if "deletionTimestamp" in pod["metadata"] or conditions.get("Ready", {}).get("status") == "True":
        return None
    if status.get("phase") == "Failed" and status.get("reason"):
        return Problem(status["reason"], f"pod {name} failed: {_short(status.get('message', status['reason']))}")
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _unschedulable(name, scheduled.get("message", ""))
    for container in status.get("initContainerStatuses", []) + status.get("containerStatuses", []):
        if problem := _diagnose_container(pod, container):
            return problem
    return None


def _unschedulable(name: str, message: str) -> Problem:
    # "0/3 nodes are available: 1 Insufficient cpu, 2 ... . no new claims to deallocate, preemption: ..." -> without
    # what the scheduler tried in vain
    text = re.split(r"\. (?:no new claims to deallocate, )?preemption:", message)[0].strip().rstrip(".")
    remedies = [remedy for sign, remedy in _UNSCHEDULABLE.items() if sign in text]
    return Problem("Unschedulable", f"pod {name} fits on no node: {_short(text)}{_then(remedies[:1])}")


def _diagnose_container(pod: Pod, container: dict[str, Any]) -> Problem | None:
    name = pod["metadata"]["name"]
    waiting = container.get("state", {}).get("waiting", {})
    if waiting.get("reason") in _WAITING:
        reason, remedy = _WAITING[waiting["reason"]]
        said = _short(waiting.get("message") or waiting["reason"])
        what = f"cannot pull image {container['image']}" if reason == "ImagePullBackOff" else "cannot start"
        return Problem(reason, f"pod {name} {what}: {said}; {remedy}")

    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if not ended or ended.get("exitCode") == 0:
        return None
    times = container.get("restartCount", 0)
    if ended.get("reason") == "OOMKilled":
        return Problem(
            "OOMKilled",
            f"pod {name} ran out of memory {times + 1 if times == 0 else times}x: its limit is "
            f"{_memory_limit(pod, container)}; raise spec.resources.memory or lower spec.engine.kvCacheMemory",
        )
    line = last_line(ended.get("message", "")) or f"exit code {ended.get('exitCode')}, nothing logged"
    return Problem("CrashLoopBackOff", f"pod {name} ends after each start ({times} restarts): {line}")


def _memory_limit(pod: Pod, container: dict[str, Any]) -> str:
    for spec in pod["spec"]["containers"]:
        if spec["name"] == container["name"]:
            return str(spec.get("resources", {}).get("limits", {}).get("memory", "the node's memory"))
    return "unknown"


def last_line(log: str) -> str:
    """The last line of a log that says something, without colours; of a JSON line its message."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in log.splitlines()]
    said = [line for line in lines if line]
    return _short(_message(said[-1])) if said else ""


def _message(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return str(entry["message"]) if isinstance(entry, dict) and "message" in entry else line


def starting(pods: Iterable[Pod]) -> str | None:
    """What a healthy pod that does not answer yet is doing; None if there is no such pod."""
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        status = pod.get("status", {})
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))
        if ready or "deletionTimestamp" in pod["metadata"]:
            continue
        running = any(
            container["name"] == CONTAINER and "running" in container.get("state", {})
            for container in status.get("containerStatuses", [])
        )
        return f"pod {pod['metadata']['name']} is {'loading the model' if running else 'starting'}"
    return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _then(remedies: list[str]) -> str:
    return f"; {remedies[0]}" if remedies else ""
