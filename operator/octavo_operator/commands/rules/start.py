"""Pods that do not come up: the model, the image, the node or the spec keeps them from it."""

from collections.abc import Iterator
from datetime import datetime

from octavo_operator.commands import causes
from octavo_operator.commands.evidence import Evidence, Object, last_end, state
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.load import Load
from octavo_operator.commands.rules.memory import gpu_line
from octavo_operator.resources import workload
from octavo_operator.status import autoscaling, conditions, diagnosis, standstill
from octavo_operator.status.diagnosis import OOM_KILLED, Problem, diagnose, is_ready, last_line
from octavo_operator.status.pod_events import failed_probe
from octavo_operator.status.rollout import Rollout

LOOKED_AT_WITHIN = 60  # seconds; an operator that runs takes one or two
LONG_START = 600
MANY_RESTARTS = 3
OF_LATE = 3600  # seconds
SECTION = "load-failure"
_SERVED = (
    "see that the operator runs and serves this namespace: kubectl get deployments -A "
    "-l app.kubernetes.io/name=octavo-operator"
)


def being_deleted(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """A deletion that has not ended: finalizers hold it, since without them the service would be gone."""
    metadata = evidence.body["metadata"]
    if since := metadata.get("deletionTimestamp"):
        held = ", ".join(metadata.get("finalizers", [])) or "none"
        yield Finding(
            "BeingDeleted",
            "critical",
            "the service is being deleted, and its finalizers hold it",
            [f"metadata.deletionTimestamp {since}", f"metadata.finalizers: {held}"],
            "whoever set a finalizer takes it away when that work is done, and none is Octavo's; foregroundDeletion "
            "waits until what the service owns is gone",
            section="the-operator",
        )


def not_carried_out(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """The operator has not come to the spec, or cannot carry it out."""
    metadata, status = evidence.body["metadata"], evidence.body.get("status", {})
    if "deletionTimestamp" in metadata:
        return
    generation, observed = metadata.get("generation", 0), status.get("observedGeneration", -1)
    waited = (evidence.now - _last_change(evidence)).total_seconds()
    if observed != generation:
        if waited > LOOKED_AT_WITHIN:
            yield Finding(
                "OperatorAway",
                "critical",
                "the operator has not looked at the present spec",
                [f"generation {generation}, observedGeneration {observed}, changed {waited:.0f} s ago"],
                _SERVED,
                section="the-operator",
            )
        return
    ready = evidence.condition("Ready")
    if _lost_its_workload(evidence):
        yield Finding(
            "OperatorAway",
            "critical",
            "nothing runs the service's pods, and the operator has not noticed",
            [f"{evidence.untold}; the status says Ready {ready['status']} {ready['reason']}"],
            _SERVED,
            section="the-operator",
        )
        return
    explained = {problem.reason for _, problem in problems(evidence)} | {OOM_KILLED, autoscaling.FAILED}
    explained |= {problem.reason for _, problem in _standing(evidence)}
    if not ready or ready["reason"] in conditions.PASSING or ready["reason"] in explained:
        return
    yield Finding(
        "NotCarriedOut",
        "warning" if ready["status"] == "True" else "critical",
        f"the service is not as its spec wants it: {ready['reason']}",
        [f"Ready {ready['status']}: {ready['message']}"],
        "the message says what stands in the way, and what to do",
        section="the-operator",
    )


def _lost_its_workload(evidence: Evidence) -> bool:
    """Whether what makes the pods is gone, of a service that was carried out. A new one is given its time."""
    if evidence.template is not None or evidence.unread.keys() & set(workload.KINDS) or not evidence.wanted:
        return False
    if not conditions.is_carried_out(evidence.body):
        return False
    since = datetime.fromisoformat(evidence.condition("Ready")["lastTransitionTime"])
    return (evidence.now - max(since, _last_change(evidence))).total_seconds() > LOOKED_AT_WITHIN


def _last_change(evidence: Evidence) -> datetime:
    """When somebody last wrote the spec."""
    metadata = evidence.body["metadata"]
    times = [
        entry["time"] for entry in metadata.get("managedFields", []) if "time" in entry and not entry.get("subresource")
    ]
    return datetime.fromisoformat(max(times, default=metadata.get("creationTimestamp", evidence.now.isoformat())))


def problems(evidence: Evidence) -> list[tuple[Object, Problem]]:
    """What the operator's own diagnosis says of each pod in trouble."""
    told = ((pod, diagnose(pod, evidence.pod_events(pod))) for pod in evidence.pods)
    return [(pod, problem) for pod, problem in told if problem is not None]


def pod_in_trouble(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """Each reason for which pods do not answer, once."""
    by_reason: dict[str, list[tuple[Object, Problem]]] = {}
    for pod, problem in problems(evidence):
        if problem.reason not in (OOM_KILLED, diagnosis.SCHEDULING_GATED) and not gpu_line(evidence, pod):
            by_reason.setdefault(problem.reason, []).append((pod, problem))
    for reason, troubled in by_reason.items():
        pod, problem = troubled[-1]
        line = "" if problem.elsewhere else _last_words(evidence, pod)
        cause = causes.told_by(f"{problem.message}\n{line}")
        told = [problem.message]
        if line and line not in problem.message:
            told.append(f"last line of the log: {line}")
        yield Finding(
            cause.rule if cause else "PodInTrouble",
            "warning" if evidence.ready else "critical",
            f"{len(troubled)} of {len(evidence.pods)} pods do not come up: {reason}",
            told,
            cause.advice if cause else "the evidence names the cause and what to do",
            cause.change(evidence) if cause else {},
            SECTION,
        )


def _last_words(evidence: Evidence, pod: Object) -> str:
    """The last line of the engine's container that ended, else of the one that runs."""
    log = evidence.logs.get(pod["metadata"]["name"])
    return last_line(log.previous or log.current) if log else ""


def _standing(evidence: Evidence) -> list[tuple[Object | None, Problem]]:
    """What merely stands still, with its pod: pods that tell of no trouble, and what makes pods, where none does."""
    silent = [pod for pod in evidence.pods if diagnose(pod, evidence.pod_events(pod)) is None]
    told = ((pod, _stands_at(evidence, pod)) for pod in silent)
    found: list[tuple[Object | None, Problem]] = [(pod, problem) for pod, problem in told if problem is not None]
    running = workload.of(evidence.owned)
    rollout = Rollout.of(running, evidence.pods)
    is_told = len(silent) < len(evidence.pods) or evidence.condition("Ready").get("reason") == conditions.PODS_REFUSED
    if found or is_told or rollout.is_complete or "Pod" in evidence.unread:
        return found
    problem = standstill.of_workload(running, rollout, evidence.pods, evidence.now)
    return [] if problem is None else [(None, problem)]


def _stands_at(evidence: Evidence, pod: Object) -> Problem | None:
    """What a pod that tells of no trouble stands at."""
    events = None if "Event" in evidence.unread else evidence.pod_events(pod)
    weights = evidence.body.get("status", {}).get("memory", {}).get("weights", 0)
    return standstill.of_pod(pod, events, evidence.now, weights)


def stands_still(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """Each thing that waits for what does not come, without a word of it, once."""
    by_reason: dict[str, list[tuple[Object | None, Problem]]] = {}
    for pod, problem in _standing(evidence):
        by_reason.setdefault(problem.reason, []).append((pod, problem))
    for reason, waiting in by_reason.items():
        pod, problem = waiting[-1]
        told = [problem.message]
        if pod is not None and not problem.elsewhere and (line := _last_words(evidence, pod)):
            told.append(f"last line of the log: {line}")
        who = "the rollout stands" if pod is None else f"{len(waiting)} of {len(evidence.pods)} pods stand"
        yield Finding(
            "StandsStill",
            "warning" if evidence.ready else "critical",
            f"{who} still: {reason}",
            told,
            "the evidence names what waits, since when, and where to look",
            section=SECTION,
        )


def slow_start(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """A pod that has been loading for long, and says of no trouble."""
    for pod in evidence.pods:
        started = state(pod).get("state", {}).get("running", {}).get("startedAt")
        if started is None or is_ready(pod) or "deletionTimestamp" in pod["metadata"]:
            continue
        waited = (evidence.now - datetime.fromisoformat(started)).total_seconds()
        events = evidence.pod_events(pod)
        told_of = diagnose(pod, events) or _stands_at(evidence, pod)
        if waited < LONG_START or told_of is not None:
            continue
        told = [f"pod {pod['metadata']['name']} has been loading for {waited / 60:.0f} min"]
        told += [f"last line of the log: {line}"] if (line := _last_words(evidence, pod)) else []
        told += [f"the kubelet's last word: {met}"] if (met := failed_probe(events)) else []
        yield Finding(
            "SlowStart",
            "warning",
            "a pod loads its model for long",
            told,
            "a model on a claim (pvc://) or in the image is not downloaded at each start; "
            "octavo_startup_seconds says afterwards which phase took long",
            section=SECTION,
        )


def restarts(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """Pods that answer again and again, each time after their engine died."""
    for pod in evidence.pods:
        count, ended = state(pod).get("restartCount", 0), last_end(pod)
        if count < MANY_RESTARTS or not is_ready(pod) or not ended or ended.get("reason") == OOM_KILLED:
            continue
        finished = datetime.fromisoformat(ended.get("finishedAt", evidence.now.isoformat()))
        ago = (evidence.now - finished).total_seconds()
        if ago > OF_LATE:
            continue
        line = _last_words(evidence, pod)
        yield Finding(
            "RestartLoop",
            "critical",
            f"pod {pod['metadata']['name']} restarts again and again",
            [
                f"{count} restarts, the last {ago / 60:.0f} min ago with exit code {ended.get('exitCode')}",
                *([f"its last line: {line}"] if line else []),
            ],
            "kubectl logs --previous shows its last words; `octavo bundle` keeps them",
            section="restarts",
        )
