"""The status of an LLMService: four conditions, one of which, Ready, says in words what is going on.

Valid        the spec can be carried out
Available    at least one pod answers
Progressing  pods are being made, replaced or removed
Ready        the endpoint answers, and every pod runs the present spec
"""

from dataclasses import dataclass
from typing import Any

from octavo_operator import errors
from octavo_operator.api import LLMService
from octavo_operator.resources.metadata import selector

Object = dict[str, Any]
Verdict = tuple[bool, str, str]  # holds, reason, message

ACCEPTED = "Accepted"
INVALID_SPEC = "InvalidSpec"
REFUSED = "Refused"
NAME_CONFLICT = "NameConflict"

SERVING = "Serving"
SCALED_TO_ZERO = "ScaledToZero"
ROLLING_OUT = "RollingOut"
SCALING = "Scaling"
STARTING = "Starting"
PODS_REFUSED = "PodsRefused"
NO_POD_READY = "NoPodReady"
POD_READY = "PodReady"

# Reasons of Ready that pass by themselves; every other one but Serving wants a person.
PASSING = {STARTING, ROLLING_OUT, SCALING}


@dataclass(frozen=True)
class Obstacle:
    """Why the spec is not carried out; `valid` tells a sound spec that something else stands in the way of."""

    reason: str
    message: str
    valid: bool = False


@dataclass(frozen=True)
class Rollout:
    """Where a Deployment stands. `settled`: no pod of a former template is left."""

    wanted: int
    existing: int
    ready: int
    settled: bool
    refusal: str | None

    @staticmethod
    def of(deployment: Object | None) -> "Rollout":
        if deployment is None:
            return Rollout(wanted=0, existing=0, ready=0, settled=False, refusal=None)
        status = deployment.get("status", {})
        existing = status.get("replicas", 0)
        seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        refusals = [
            condition.get("message", "")
            for condition in status.get("conditions", [])
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        ]
        return Rollout(
            wanted=deployment["spec"].get("replicas", 1),
            existing=existing,
            ready=status.get("readyReplicas", 0),
            settled=seen and status.get("updatedReplicas", 0) == existing,
            refusal=refusals[0] if refusals else None,
        )


def status(
    body: Object,
    service: LLMService | None,
    obstacle: Obstacle | None,
    deployment: Object | None,
    pods: list[Object],
    now: str,
) -> Object:
    """The whole status. `body` is the stored LLMService, `service` its parsed form (None if the spec is invalid),
    `now` an RFC 3339 time; a condition whose status did not change keeps its time."""
    rollout = Rollout.of(deployment)
    holds = {
        "Valid": _valid(obstacle),
        "Available": _available(rollout),
        "Progressing": _progressing(rollout, deployment),
        "Ready": _ready(obstacle, rollout, pods, body["metadata"]["name"], deployment),
    }
    former = body.get("status", {})
    times = {(item["type"], item["status"]): item["lastTransitionTime"] for item in former.get("conditions", [])}
    conditions = []
    for type_, (holding, reason, message) in holds.items():
        word = "True" if holding else "False"
        conditions.append(
            {
                "type": type_,
                "status": word,
                "reason": reason,
                "message": message,
                "lastTransitionTime": times.get((type_, word), now),
                "observedGeneration": body["metadata"]["generation"],
            }
        )
    labels = selector(body["metadata"]["name"])
    result = {
        "conditions": conditions,
        "replicas": rollout.existing,
        "readyReplicas": rollout.ready,
        "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
    }
    url = service.url if service else former.get("url")
    return result | ({"url": url} if url else {})


def of(status_: Object, type_: str) -> Object | None:
    """One condition of a status, None if it has none of that type."""
    return next((item for item in status_.get("conditions", []) if item["type"] == type_), None)


def _valid(obstacle: Obstacle | None) -> Verdict:
    if obstacle is not None and not obstacle.valid:
        return False, obstacle.reason, obstacle.message
    return True, ACCEPTED, "the spec can be carried out"


def _available(rollout: Rollout) -> Verdict:
    if rollout.ready:
        return True, POD_READY, f"{rollout.ready} of {rollout.wanted} replicas answer"
    return False, NO_POD_READY, f"0 of {rollout.wanted} replicas answer"


def _progressing(rollout: Rollout, deployment: Object | None) -> Verdict:
    if deployment is None:
        return False, STARTING, "there is no Deployment yet"
    if not rollout.settled:
        return True, ROLLING_OUT, "pods are being replaced by pods of the present spec"
    if rollout.existing != rollout.wanted or rollout.ready != rollout.wanted:
        return True, SCALING, f"{rollout.ready} of {rollout.wanted} replicas answer"
    return False, SERVING if rollout.wanted else SCALED_TO_ZERO, "every replica runs the present spec"


def _ready(
    obstacle: Obstacle | None, rollout: Rollout, pods: list[Object], name: str, deployment: Object | None
) -> Verdict:
    if obstacle is not None:
        return False, obstacle.reason, obstacle.message
    if deployment is not None and rollout.wanted == 0 and rollout.existing == 0:
        return False, SCALED_TO_ZERO, f"replicas is 0; kubectl scale llmservice {name} --replicas=1"
    counted = f"{rollout.ready} of {rollout.wanted} replicas answer"
    answers = rollout.ready > 0 and rollout.settled
    problem = errors.root_cause(pods)
    if problem is None and rollout.refusal:
        problem = errors.Problem(PODS_REFUSED, f"the API server refuses pods: {rollout.refusal}")
    if problem is not None and rollout.ready < max(rollout.wanted, rollout.existing):
        return answers, problem.reason, f"{counted}; {problem.message}"
    doing = errors.starting(pods)
    if answers:
        return True, SERVING, counted if doing is None else f"{counted}; {doing}"
    if rollout.ready:
        return False, ROLLING_OUT, f"{counted}, some of them by the former spec" + (f"; {doing}" if doing else "")
    return False, STARTING, f"{counted}; {doing or 'pods are being created'}"
