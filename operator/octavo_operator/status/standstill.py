"""What merely stands still: nothing says that it is wrong, and nothing goes on. Told are what waits, since when, and
where to look, as the time alone shows it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from octavo_operator.api.accelerator import GPU
from octavo_operator.resources import workload
from octavo_operator.resources.pod_template import CONTAINER, engine_of
from octavo_operator.status.condition import condition_of, is_true, words
from octavo_operator.status.diagnosis import ENDED, Problem, is_ready, newest_first
from octavo_operator.status.pod_events import failed_probe, line
from octavo_operator.status.rollout import Rollout

Pod = dict[str, Any]
Event = dict[str, Any]
Object = dict[str, Any]

# What takes longer does not go on by itself.
_SHORT = timedelta(minutes=5)  # what a scheduler, a controller or a kubelet does within seconds
_BINDING = timedelta(minutes=15)  # a scheduler waits for ten, and says nothing, while a volume is made for a claim
_LONG = timedelta(minutes=30)  # an image of gigabytes, an init container, a large model
_BYTES_A_SECOND = 50e6  # of a larger model: what a slow way to a hub, or a slow volume, brings

NOT_SCHEDULED = "NotScheduled"
NOT_TAKEN_UP = "NotTakenUp"
NOT_INITIALIZED = "NotInitialized"
CONTAINER_CREATING = "ContainerCreating"
POD_NOT_READY = "PodNotReady"
READINESS_GATES = "ReadinessGates"
NOT_ENDED = "NotEnded"
NO_CONTROLLER = "NoController"
GROUP_INCOMPLETE = "GroupIncomplete"
DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"

_BEING_CREATED = ("ContainerCreating", "PodInitializing")
_PULLING = "Pulling"
_STEPS = (_PULLING, "Pulled", "Created", "Started")  # what a kubelet says of a container that goes on
_DEFAULT_SCHEDULER = "default-scheduler"
# What makes the pods -> how to see what carries it out.
_CONTROLLERS = {
    workload.DEPLOYMENT: "kube-controller-manager runs: kubectl get pods -n kube-system",
    workload.LEADER_WORKER_SET: "the controller of LeaderWorkerSet runs: kubectl get pods -n lws-system",
}


def root_cause(
    running: Object | None,
    rollout: Rollout,
    pods: Sequence[Pod],
    events: Mapping[str, Sequence[Event]],
    now: datetime,
    weights: int = 0,
) -> Problem | None:
    """What stands still of a service, where its pods tell of no trouble: the newest pod, or else what makes them.
    `events`: of pods, by their names, where they are known; `weights`: see of_pod."""
    ordered = sorted(newest_first(pods), key=lambda pod: "deletionTimestamp" in pod["metadata"])
    of_pods = (of_pod(pod, events.get(pod["metadata"]["name"]), now, weights) for pod in ordered)
    return next((problem for problem in of_pods if problem is not None), of_workload(running, rollout, pods, now))


def is_unseen(pod: Pod) -> bool:
    """Whether no scheduler has said anything of a pod; nothing tells of it when none ever does."""
    waits = "nodeName" not in pod["spec"] and condition_of(pod.get("status", {}), "PodScheduled") is None
    return waits and pod.get("status", {}).get("phase") not in ENDED and "deletionTimestamp" not in pod["metadata"]


def of_pod(pod: Pod, events: Sequence[Event] | None, now: datetime, weights: int = 0) -> Problem | None:
    """What a pod that tells of no trouble (see diagnosis.diagnose) waits for longer than that takes; `events` oldest
    first, None where they are not known; `weights`: bytes that it loads for each of its devices, 0 where that is not
    known."""
    status = pod.get("status", {})
    if status.get("phase") in ENDED:
        return None
    if "deletionTimestamp" in pod["metadata"]:
        return _not_ended(pod, now)
    if is_ready(pod):
        return None
    if "nodeName" not in pod["spec"]:
        return _not_scheduled(pod, now) if is_unseen(pod) else None
    told = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    if not told:
        return _not_taken_up(pod, now)
    steps = (_not_initialized(pod, now), _not_created(pod, events, now), _not_ready(pod, events or (), now, weights))
    return next((problem for problem in steps if problem is not None), _gated(pod, now))


def of_workload(running: Object | None, rollout: Rollout, pods: Sequence[Pod], now: datetime) -> Problem | None:
    """What makes the pods, and does not. `pods`: its own."""
    if running is None:
        return None
    kind, status = running["kind"], running.get("status", {})
    what = f"{kind} {running['metadata']['name']}"
    if _is_past(since := _unheeded(running), _SHORT, now):
        return Problem(
            NO_CONTROLLER,
            f"{what} was written at {since}, and nothing has looked at it since; see that {_CONTROLLERS[kind]}",
        )
    progressing = condition_of(status, "Progressing") or {}
    is_late = progressing.get("reason") == DEADLINE_EXCEEDED and progressing["status"] == "False"
    if is_late and not _any_on_the_way(pods):
        name = running["metadata"]["name"]
        said = f"{what} has stood still since {progressing.get('lastTransitionTime')}: {words(progressing)}"
        ways = f"kubectl describe deployment {name}, and kubectl get events, tell more"
        return Problem(DEADLINE_EXCEEDED, f"{said}; {ways}")
    return _incomplete(running, rollout, pods, now)


def _unheeded(running: Object) -> str | None:
    """Since when what was written of a workload has been looked at by nobody; None where somebody did."""
    metadata, status = running["metadata"], running.get("status", {})
    if status.get("observedGeneration", 0) >= metadata["generation"]:
        return None
    if running["kind"] == workload.LEADER_WORKER_SET and "conditions" in status:
        return None  # it does not say which generation these are of
    return max(_writings(running), default=None if status else metadata.get("creationTimestamp"))


def _writings(running: Object) -> list[str]:
    """When each party last wrote anything but the status."""
    fields = running["metadata"].get("managedFields") or []
    return [each["time"] for each in fields if "time" in each and each.get("subresource") != "status"]


def _any_on_the_way(pods: Sequence[Pod]) -> bool:
    """Whether a pod is still to be ready. What it stands at is told of itself, and what makes pods may wait for it: a
    Deployment stays past its deadline until the pod is ready that a queue let through after that."""
    gone_on = (pod for pod in pods if pod.get("status", {}).get("phase") not in ENDED)
    return any(not is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in gone_on)


def _incomplete(running: Object, rollout: Rollout, pods: Sequence[Pod], now: datetime) -> Problem | None:
    """A group whose pods are not all made, with no word of why. It is not said since when they are missed: the last
    thing that happened is the earliest that it can be, and a pod that ends has until then."""
    happened = [each.get("lastTransitionTime") or "" for each in running.get("status", {}).get("conditions", [])]
    happened += _writings(running)
    for metadata in (pod["metadata"] for pod in pods):
        happened += [metadata.get("creationTimestamp", ""), metadata.get("deletionTimestamp", "")]
    for name, made in rollout.short.items():
        if name == running["metadata"]["name"] and _any_on_the_way(pods):
            continue  # a rollout gives its additional groups up while the last are made
        since = max([made, *happened])
        if _is_past(since, _SHORT, now):
            said = f"StatefulSet {name} has not made all pods of a group, nothing new since {since}"
            ways = f"kubectl describe statefulset {name} tells more; see that {_CONTROLLERS[running['kind']]}"
            return Problem(GROUP_INCOMPLETE, f"{said}; {ways}")
    return None


def _not_ended(pod: Pod, now: datetime) -> Problem | None:
    """A pod that its node was to have ended, with all the time that it is given: its successor may wait for that."""
    metadata, node = pod["metadata"], pod["spec"].get("nodeName")
    if not _is_past(metadata["deletionTimestamp"], _SHORT, now):
        return None
    said = f"pod {metadata['name']} was to be gone by {metadata['deletionTimestamp']}, and is not"
    if finalizers := metadata.get("finalizers"):
        return Problem(
            NOT_ENDED, f"{said}: its finalizers {', '.join(finalizers)} hold it; whoever set them lifts them"
        )
    lost = f"where that node is lost for good, kubectl delete pod {metadata['name']} --force"
    return Problem(NOT_ENDED, f"{said}; see that node {node} is there: kubectl describe node {node}; {lost}")


def _not_scheduled(pod: Pod, now: datetime) -> Problem | None:
    made = pod["metadata"].get("creationTimestamp")
    has_claims = any("persistentVolumeClaim" in each or "ephemeral" in each for each in pod["spec"].get("volumes", []))
    if not _is_past(made, _BINDING if has_claims else _SHORT, now):
        return None
    scheduler = pod["spec"].get("schedulerName", _DEFAULT_SCHEDULER)
    said = f"pod {pod['metadata']['name']} has waited for a node since {made}, and no scheduler has said anything of it"
    way = "see that kube-scheduler runs: kubectl get pods -n kube-system"
    if scheduler != _DEFAULT_SCHEDULER:
        way = f"see that the scheduler {scheduler}, which spec.podTemplate names, runs, or name another"
    return Problem(NOT_SCHEDULED, f"{said}; {way}")


def _not_taken_up(pod: Pod, now: datetime) -> Problem | None:
    since, node = _scheduled_at(pod), pod["spec"]["nodeName"]
    if not _is_past(since, _SHORT, now):
        return None
    said = f"pod {pod['metadata']['name']} was given to node {node} at {since}, which has not taken it up"
    return Problem(NOT_TAKEN_UP, f"{said}; see that its kubelet runs: kubectl describe node {node}")


def _not_initialized(pod: Pod, now: datetime) -> Problem | None:
    """An init container that runs on."""
    name = pod["metadata"]["name"]
    for container in _holding(pod):
        since = container.get("state", {}).get("running", {}).get("startedAt")
        if _is_past(since, _LONG, now):
            said = f"pod {name}, init container {container['name']} of spec.podTemplate, has run since {since}"
            ways = f"the engine waits for it: kubectl logs {name} -c {container['name']} tells more"
            return Problem(NOT_INITIALIZED, f"{said}; {ways}", elsewhere=True)
    return None


def _not_created(pod: Pod, events: Sequence[Event] | None, now: datetime) -> Problem | None:
    """Containers that the kubelet has been creating for long; the longer where an image is, or may be, on its way."""
    status, name, node = pod.get("status", {}), pod["metadata"]["name"], pod["spec"]["nodeName"]
    initial = status.get("initContainerStatuses", [])
    if any("running" in each.get("state", {}) for each in _holding(pod)):
        return None
    told = [*initial, *status.get("containerStatuses", [])]
    waiting = [each for each in told if each.get("state", {}).get("waiting", {}).get("reason") in _BEING_CREATED]
    if not waiting:
        return None
    steps = [each for each in events or () if each.get("reason") in _STEPS]
    pulls = bool(steps) and steps[-1]["reason"] == _PULLING
    ends = [each.get("state", {}).get("terminated", {}).get("finishedAt") or "" for each in initial]
    initialized = (condition_of(status, "Initialized") or {}).get("lastTransitionTime") or ""
    # A pod's status comes a moment after the events of what it tells.
    since = max([_scheduled_at(pod), initialized, *ends, *(_time(each) for each in steps)])
    if not _is_past(since, _LONG if pulls or events is None else _SHORT, now):
        return None
    said = f"pod {name}, container {waiting[0]['name']}, has been created on node {node} since {since}"
    if pulls:
        way = "a registry nearer to the nodes, or an image that they have, is faster"
        return Problem(CONTAINER_CREATING, f"{said}: {line(steps[-1])}; {way}")
    if events:
        said += f", and the last that was said of it is: {line(events[-1])}"
    elif events is not None:
        said += ", and no event says why it takes so long"
    ways = f"kubectl describe pod {name}, and on that node journalctl -u kubelet, tell more"
    return Problem(CONTAINER_CREATING, f"{said}; {ways}")


def _holding(pod: Pod) -> list[Object]:
    """The init containers that the others wait for: those to run beside them only until they have started."""
    beside = [each["name"] for each in pod["spec"].get("initContainers", []) if each.get("restartPolicy") == "Always"]
    told = pod.get("status", {}).get("initContainerStatuses", [])
    return [each for each in told if not (each["name"] in beside and each.get("started"))]


def _not_ready(pod: Pod, events: Sequence[Event], now: datetime, weights: int) -> Problem | None:
    """A container that runs, and is not ready."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    turned = (condition_of(status, "Ready") or {}).get("lastTransitionTime") or ""
    for container in status.get("containerStatuses", []):
        started = container.get("state", {}).get("running", {}).get("startedAt")
        if container.get("ready") or started is None:
            continue
        ours, limit = container["name"] == CONTAINER, _LONG
        if not container.get("started"):
            limit = max(limit, _longest_start(pod, container["name"]))
        if ours and turned <= started:  # the engine listens, and has started by that, while it loads
            limit = max(limit, _longest_load(pod, weights))
        if not _is_past(max(started, turned), limit, now):
            continue
        what = f"pod {name}" if ours else f"pod {name}, container {container['name']} of spec.podTemplate,"
        # A pod is not ready from before its containers start: what turned later had been.
        said = (
            f"{what} was ready until {turned}, and runs on" if turned > started else f"{what} has run since {started}"
        )
        met = f": {said_last}" if (said_last := failed_probe(events)) else ""
        ways = f"kubectl logs {name} -c {container['name']} says what it is at"
        if ours:
            ways += f"; kubectl delete pod {name} starts it anew where that is nothing"
        return Problem(POD_NOT_READY, f"{said} and is not ready{met}; {ways}", elsewhere=not ours)
    return None


def _longest_load(pod: Pod, weights: int) -> timedelta:
    """How long the model of an engine may take to come, and be loaded."""
    engine = engine_of(pod) or {}
    devices = int(engine.get("resources", {}).get("limits", {}).get(GPU, 1))
    return timedelta(seconds=weights * devices / _BYTES_A_SECOND)


def _longest_start(pod: Pod, name: str) -> timedelta:
    """How long the startup probe of a container lets it take."""
    container: Object = next((each for each in pod["spec"].get("containers", []) if each["name"] == name), {})
    if not (probe := container.get("startupProbe")):
        return timedelta()
    tries = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    return timedelta(seconds=probe.get("initialDelaySeconds", 0) + tries)


def _gated(pod: Pod, now: datetime) -> Problem | None:
    """A pod whose containers are ready, and that others have not yet called so."""
    status = pod.get("status", {})
    ready = condition_of(status, "ContainersReady") or {}
    gates = [each["conditionType"] for each in pod["spec"].get("readinessGates", [])]
    missing = ", ".join(gate for gate in gates if not is_true(status, gate))
    turned = (condition_of(status, "Ready") or {}).get("lastTransitionTime") or ""
    since = max(ready.get("lastTransitionTime") or "", turned)  # later where a gate was met, and is no more
    if ready.get("status") != "True" or not missing or not _is_past(since, _SHORT, now):
        return None
    said = f"pod {pod['metadata']['name']} is ready but for its readiness gates since {since}: {missing}"
    return Problem(READINESS_GATES, f"{said}; see that whoever sets these conditions runs, or take them out")


def _scheduled_at(pod: Pod) -> str:
    """When a pod was given to its node."""
    scheduled = condition_of(pod.get("status", {}), "PodScheduled") or {}
    return str(scheduled.get("lastTransitionTime") or pod["metadata"].get("creationTimestamp", ""))


def _is_past(since: str | None, limit: timedelta, now: datetime) -> bool:
    """Whether more than that has gone by; what is not known has not."""
    return bool(since) and now - datetime.fromisoformat(str(since)) > limit


def _time(event: Event) -> str:
    """When it was last told; empty where that is not said."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
