"""Root causes: what keeps a service's pods from answering, in words that a user can act on."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from octavo_operator.api.accelerator import GPU
from octavo_operator.kinds import SERVICE_LABEL
from octavo_operator.resources.cache_claim import SUFFIX as CACHE_SUFFIX
from octavo_operator.resources.leader_worker_set import leads
from octavo_operator.resources.pod_template import CONTAINER, engine_of
from octavo_operator.sizing import GPU_PRODUCT
from octavo_operator.status.condition import condition_of, is_true
from octavo_operator.status.pod_events import Cause, killed_by_probe, obstacle_to_start

Pod = dict[str, Any]
Event = dict[str, Any]
Container = dict[str, Any]

_MAX_TEXT = 400
_LONG_RUN = 300  # seconds; what ran so long did not end at its start
_OF_ITS_LEADER = "node 0 ("  # how a worker of a group says that its leader went first
ENDED = ("Failed", "Succeeded")
UNSCHEDULABLE = "Unschedulable"
SCHEDULING_GATED = "SchedulingGated"
OOM_KILLED = "OOMKilled"


@dataclass(frozen=True)
class Problem:
    """`reason`: one CamelCase word for the Reason column; `message`: cause and remedy; `wants_room`: a pod that ends
    would make it go away; `elsewhere`: it is of another container than the engine's, whose log says nothing of it."""

    reason: str
    message: str
    wants_room: bool = False
    elsewhere: bool = False


# Why a container cannot be created -> the Reason column and what to do, for the engine and for any other container.
_IMAGE = ("check spec.image, or the runtime image that the operator was given", "check its image in spec.podTemplate")
_WAITING = {
    "ImagePullBackOff": ("ImagePullBackOff", *_IMAGE),
    "ErrImagePull": ("ImagePullBackOff", *_IMAGE),
    "ErrImageNeverPull": ("ImagePullBackOff", *["load the image onto the node or allow it to be pulled"] * 2),
    "InvalidImageName": ("ImagePullBackOff", "correct spec.image", _IMAGE[1]),
    "CreateContainerConfigError": (
        "ContainerConfigError",
        "check spec.model.tokenSecret or credentialsSecret, spec.env and spec.podTemplate",
        "check spec.podTemplate",
    ),
    "CreateContainerError": ("ContainerConfigError", *["check spec.podTemplate"] * 2),
    "RunContainerError": ("ContainerConfigError", *["check spec.podTemplate"] * 2),
}
# `secret "hub" not found`, `couldn't find key token in Secret default/hub`
_ABSENT = re.compile(r'(secret|configmap) "([^"]+)" not found|in (secret|configmap) [^/\s]+/([^\s,;:]+)', re.IGNORECASE)
_ON_THE_WAY = ("ContainerCreating", "PodInitializing", "CrashLoopBackOff")

# Between two tries the kubelet puts this before the cause, which a try tells alone.
_BETWEEN_TRIES = re.compile(r'^Back-off pulling image "[^"]*": \w+: ')

_OTHER_NODES = "its volume is within reach of other nodes alone: make room on them, or give the claim another volume"
# What the scheduler misses -> what to do.
_MISSING = {
    "Insufficient memory": "lower spec.resources.memory or add memory to the cluster",
    "Insufficient cpu": "lower spec.resources.cpu or add CPUs to the cluster",
    f"Insufficient {GPU}": "free a GPU, or add a node with one",
    "persistentvolumeclaim": "create the claim that spec.model names, in the service's namespace",
    "untolerated taint": "add a toleration to spec.tolerations",
    "volume node affinity": _OTHER_NODES,
    "PersistentVolume's node affinity": _OTHER_NODES,
    "were unschedulable": "uncordon a node, or add one",
}
_NOT_ASKED_FOR = "Pod's node affinity"  # "node(s) didn't match Pod's node affinity/selector"
_UNBOUND = "unbound immediate PersistentVolumeClaims"
# What the scheduler tried in vain, behind why no node takes the pod; "not found" where it could not even try.
_TRIED = re.compile(r"\. (?:no new claims to deallocate, )?preemption:|\. not found\.?$")
_KILLED = re.compile(r"exit(ed with)? (code|status) (-9|137)\b")


def root_cause(pods: Iterable[Pod], events: Mapping[str, Sequence[Event]] | None = None) -> Problem | None:
    """What is wrong with the first pod in trouble, newest pods first: they run what was asked for last. `events`: of
    pods, by their names."""
    for pod in newest_first(_present(pods)):
        if problem := diagnose(pod, (events or {}).get(pod["metadata"]["name"], ())):
            return problem
    return None


def newest_first(pods: Iterable[Pod]) -> list[Pod]:
    """Pods by when they were made."""
    return sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), reverse=True)


def _present(pods: Iterable[Pod]) -> list[Pod]:
    """The pods that count. One that has ended does not, once another came after it: it only lies there."""
    known = list(pods)
    going_on = [pod for pod in known if pod.get("status", {}).get("phase") not in ENDED]
    newest = max((str(pod["metadata"]["creationTimestamp"]) for pod in going_on), default="")
    return going_on + [
        pod for pod in known if pod not in going_on and str(pod["metadata"]["creationTimestamp"]) > newest
    ]


def finds_no_gpu(pod: Pod) -> bool:
    """Whether the scheduler says that no node has a GPU to spare for a pod."""
    scheduled = _scheduled(pod)
    return scheduled.get("status") == "False" and f"Insufficient {GPU}" in scheduled.get("message", "")


def wants_events(pod: Pod) -> bool:
    """Whether the events of a pod may say what its status does not: it has a node, and does not answer."""
    return "nodeName" in pod.get("spec", {}) and not is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def diagnose(pod: Pod, events: Sequence[Event] = ()) -> Problem | None:
    """What is wrong with a pod; None if it answers, is on its way, or is being deleted."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    if "deletionTimestamp" in pod["metadata"] or is_ready(pod):
        return None
    if status.get("phase") == "Failed" and status.get("reason"):
        return Problem(status["reason"], f"pod {name} failed: {_short(status.get('message', status['reason']))}")
    scheduled = _scheduled(pod)
    if scheduled.get("status") == "False":
        return _not_scheduled(pod, scheduled)
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind, []):
            initial = kind == "initContainerStatuses"
            if problem := _diagnose_container(pod, container, events, initial=initial):
                return replace(problem, elsewhere=initial or container["name"] != CONTAINER)
    if not any("running" in container.get("state", {}) for container in status.get("containerStatuses", [])):
        cause = obstacle_to_start(events)
        return _told(cause, f"pod {name} cannot start") if cause else None
    return None


def is_ready(pod: Pod) -> bool:
    """Whether a pod answers."""
    return is_true(pod.get("status", {}), "Ready")


def _scheduled(pod: Pod) -> dict[str, Any]:
    """What the scheduler says of a pod; empty before it says anything."""
    return condition_of(pod.get("status", {}), "PodScheduled") or {}


def _told(cause: Cause, what: str) -> Problem:
    return Problem(cause.reason, f"{what}: {_short(cause.said)}{_then(cause.remedies)}")


def _not_scheduled(pod: Pod, condition: dict[str, Any]) -> Problem:
    name = pod["metadata"]["name"]
    if condition.get("reason") == "SchedulingGated":
        gates = ", ".join(gate["name"] for gate in pod["spec"].get("schedulingGates", [])) or "unnamed"
        said = f"pod {name} waits for its scheduling gates: {gates}; whoever set them, such as a queue, lifts them"
        return Problem(SCHEDULING_GATED, said)
    # "0/3 nodes are available: 1 Insufficient cpu, 2 ... . no new claims to deallocate, preemption: ..."
    text = _TRIED.split(condition.get("message", "").strip())[0].strip().rstrip(".")
    remedies = [remedy for sign, remedy in _MISSING.items() if sign in text]
    remedies += _for_nodes(pod) if _NOT_ASKED_FOR in text else []
    remedies += _for_volumes(pod) if _UNBOUND in text else []
    message = f"pod {name} fits on no node: {_short(text)}{_then(remedies)}"
    return Problem(UNSCHEDULABLE, message, wants_room="Insufficient" in text)


def _for_nodes(pod: Pod) -> list[str]:
    """Where it stands which nodes a pod may go to; none of them is such."""
    labels = dict(pod["spec"].get("nodeSelector") or {})
    product = labels.pop(GPU_PRODUCT, None)
    ways = [f"no node that is left has the GPU {product}: check spec.accelerator.product"] if product else []
    if labels:
        asked = ", ".join(f"{name}={value}" for name, value in labels.items())
        ways.append(f"it asks for a node with {asked}: check spec.nodeSelector, or label a node so")
    if not ways or "nodeAffinity" in (pod["spec"].get("affinity") or {}):
        ways.append("check nodeSelector and affinity in spec.podTemplate")
    return ways


def _for_volumes(pod: Pod) -> list[str]:
    """How the claims of a pod come to volumes; of each by whose it is."""
    names = [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes", [])
        if "persistentVolumeClaim" in volume
    ]
    own = (pod["metadata"].get("labels") or {}).get(SERVICE_LABEL, "") + CACHE_SUFFIX
    cached = (
        f"set spec.model.cache.storageClassName to a class that the cluster has, and delete {own} if it is of another"
    )
    return [cached if name == own else f"give the claim {name} a volume" for name in names]


def _diagnose_container(pod: Pod, container: Container, events: Sequence[Event], *, initial: bool) -> Problem | None:
    what = f"pod {pod['metadata']['name']}"
    ours = container["name"] == CONTAINER and not initial
    if not ours:
        what += f", {'init container' if initial else 'container'} {container['name']} of spec.podTemplate,"
    waiting = container.get("state", {}).get("waiting", {})
    if waiting.get("reason") in _WAITING:
        reason, remedy, elsewhere = _WAITING[waiting["reason"]]
        said = _short(_BETWEEN_TRIES.sub("", waiting.get("message") or waiting["reason"]))
        if ours and reason == "ContainerConfigError":
            remedy = _refers(pod, said) or remedy
        does = f"cannot pull image {container['image']}" if reason == "ImagePullBackOff" else "cannot start"
        return Problem(reason, f"{what} {does}: {said}; {remedy if ours else elsewhere}")
    if waiting.get("reason") and waiting["reason"] not in _ON_THE_WAY:
        return Problem(waiting["reason"], f"{what} cannot start: {_short(waiting.get('message') or waiting['reason'])}")

    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    if not ended or (not ours and container.get("ready")):
        return None
    times = container.get("restartCount", 0)
    if ended.get("reason") == OOM_KILLED:
        remedy = "raise spec.resources.memory or lower spec.engine.kvCacheMemory" if ours else "raise its limit"
        return Problem(
            OOM_KILLED,
            f"{what} ran out of memory {max(times, 1)}x: its limit is {_memory_limit(pod, container)}; {remedy}",
        )
    if times and (cause := killed_by_probe(events, container["name"])):
        return _told(cause, f"{what} was restarted ({_times(times)})")
    if ended.get("exitCode") == 0:
        return _ended_by_itself(what, container, times, initial=initial)
    line = last_line(ended.get("message", ""))
    if line.startswith(_OF_ITS_LEADER) and not leads(pod):
        return None  # what ended the leader is told of that
    line = line or f"exit code {ended.get('exitCode')}, {_silent(pod, container, ours)}"
    return _ended_badly(what, ended, times, waiting, line, ours=ours)


def _refers(pod: Pod, said: str) -> str:
    """Which variables of the engine take the Secret or ConfigMap that is missed, and which fields set them; empty where
    none does."""
    if (match := _ABSENT.search(said)) is None:
        return ""
    source = "secretKeyRef" if (match[1] or match[3]).lower() == "secret" else "configMapKeyRef"
    engine = engine_of(pod) or {}
    taken = [(each["name"], (each.get("valueFrom") or {}).get(source) or {}) for each in engine.get("env", [])]
    names = [name for name, of in taken if of.get("name") == (match[2] or match[4]) and not of.get("optional", False)]
    if not names:
        return ""
    fields = "spec.env, or spec.podTemplate"
    if "HF_TOKEN" in names:
        fields = "spec.model.tokenSecret, or spec.env"
    elif "AWS_ACCESS_KEY_ID" in names:
        fields = "spec.model.credentialsSecret, or spec.env"
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} taken from it: check {fields}"


def _ended_by_itself(what: str, container: Container, times: int, *, initial: bool) -> Problem | None:
    """An end without an error is one all the same, of what is to go on running; once may be a restart on request."""
    running = "running" in container.get("state", {})
    if (initial and not running) or (running and times < 2):
        return None
    does = f"ends by itself after each start ({_times(times)})" if times else "ended by itself"
    said = f"{what} {does}, with exit code 0"
    return Problem("CrashLoopBackOff", f"{said}; a server must go on running: check command and args")


def _silent(pod: Pod, container: Container, ours: bool) -> str:
    """What to make of an end without a message: the engine's is the end of its log, others' are what they wrote to a
    file, mostly nothing."""
    if ours:
        return "nothing logged"
    previous = " --previous" if "running" in container.get("state", {}) else ""
    return f"kubectl logs {pod['metadata']['name']} -c {container['name']}{previous} tells more"


def _ended_badly(what: str, ended: Container, times: int, waiting: Container, line: str, *, ours: bool) -> Problem:
    remedies = []
    if ended.get("exitCode") == 137 or _KILLED.search(line):
        remedies.append("it was killed, mostly for want of memory: raise spec.resources.memory")
    ran = _seconds(ended)
    if ran is not None and ran >= _LONG_RUN:
        reason = "CrashLoopBackOff" if waiting else "Restarted"
        said = f"{what} ended after {_span(ran)} ({_times(times)}): {line}"
    elif times < 2 and not waiting and not ours:
        reason, said = "Restarted", f"{what} ended ({_times(times)}): {line}"
    else:
        does = f"ends after each start ({_times(times)})" if times else "ended at its start"
        reason, said = "CrashLoopBackOff", f"{what} {does}: {line}"
    return Problem(reason, said + _then(remedies))


def _times(restarts: int) -> str:
    return f"{restarts} restart{'' if restarts == 1 else 's'}"


def _seconds(ended: Container) -> float | None:
    """How long it ran; None where that is not said."""
    if not ended.get("startedAt") or not ended.get("finishedAt"):
        return None
    return (datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(ended["startedAt"])).total_seconds()


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds >= 2 * 3600 else f"{seconds / 60:.0f} min"


def _memory_limit(pod: Pod, container: Container) -> str:
    spec = pod["spec"]
    for each in spec.get("containers", []) + spec.get("initContainers", []):
        if each["name"] == container["name"]:
            return str(each.get("resources", {}).get("limits", {}).get("memory", "the node's memory"))
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
    for pod in sorted(_present(pods), key=lambda pod: str(pod["metadata"]["name"])):
        if is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
            continue
        engine: Container = next(
            (item for item in pod.get("status", {}).get("containerStatuses", []) if item["name"] == CONTAINER), {}
        )
        doing = "loading the model" if "running" in engine.get("state", {}) else "starting"
        restarts = engine.get("restartCount", 0)
        return f"pod {pod['metadata']['name']} is {doing}" + (f" ({_times(restarts)})" if restarts else "")
    return None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 3] + "..."


def _then(remedies: Sequence[str]) -> str:
    return f"; {'; '.join(remedies)}" if remedies else ""
