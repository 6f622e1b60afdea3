"""The status of an LLMService: its conditions, one of which, Ready, says in words what is going on.

Valid        the spec can be carried out
Fits         the model fits the memory of what its pods run on; Unknown where that cannot be told before they start
Available    at least one pod answers
Progressing  pods are being made, replaced or removed
Ready        the endpoint answers, and every pod runs the present spec; or no pod is wanted, and there is none
ScalingActive  only with spec.autoscaling: every target's metric has a value, and the autoscaler works
Routed       only with endpoint.ingress or endpoint.gateway: a controller leads clients from outside to the service
NoSpareGPU   only on GPUs under rollout.strategy auto: a rollout found no GPU for one pod more
Stalled      only while it holds: nothing goes on before a person changes something
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from octavo_operator.resources.metadata import selector
from octavo_operator.sizing import DOES_NOT_FIT, NO_POD_WANTED, READING_MODEL, UNSUPPORTED
from octavo_operator.status import autoscaling, diagnosis, routes, standstill
from octavo_operator.status.condition import Holding, condition_of
from octavo_operator.status.observation import Observation
from octavo_operator.status.pod_events import refused
from octavo_operator.status.rollout import Rollout

Object = dict[str, Any]

ACCEPTED = "Accepted"
INVALID_SPEC = "InvalidSpec"
REFUSED = "Refused"
NAME_CONFLICT = "NameConflict"
TROUBLE = "Trouble"

SERVING = "Serving"
SCALED_TO_ZERO = "ScaledToZero"
SUSPENDED = "Suspended"
ROLLING_OUT = "RollingOut"
SCALING = "Scaling"
STARTING = "Starting"
PODS_REFUSED = "PodsRefused"
NO_POD_READY = "NoPodReady"
NO_POD_READY_YET = "NoPodReadyYet"
POD_READY = "PodReady"
QUEUED = "Queued"
NO_SPARE_GPU = "NoSpareGPU"
SURGES = "Surges"
DRAINS_FIRST = "DrainsFirst"
WAITS_FOR_GPU = "WaitsForGPU"
SCALED_BY_ANOTHER = "ScaledByAnother"
CONTENDED = "Contended"
DOWNLOADING = "DownloadingModel"
DOWNLOAD_FAILED = "ModelDownloadFailed"
CACHE_FULL = "CacheFull"
NO_CACHE = "NoCache"

# Reasons of Ready that are as asked for, or pass by themselves; every other one wants a person.
PASSING = {
    SERVING,
    SCALED_TO_ZERO,
    SUSPENDED,
    READING_MODEL,
    DOWNLOADING,
    STARTING,
    ROLLING_OUT,
    SCALING,
    diagnosis.SCHEDULING_GATED,
}

# Reasons of Ready by which the present spec is not carried out.
_OF_CACHE = (DOWNLOADING, DOWNLOAD_FAILED, CACHE_FULL, NO_CACHE)
_NOT_CARRIED_OUT = (REFUSED, NAME_CONFLICT, READING_MODEL, DOES_NOT_FIT, UNSUPPORTED, *_OF_CACHE)


@dataclass(frozen=True)
class Obstacle:
    """Why the spec is not carried out.

    Attributes:
        valid: tells a sound spec that something else stands in the way of.
        stalls: whether nothing but a change, of the spec or of what stands in its way, will help.
        carried_out: the present spec was carried out before this came up: its pods are what they are to be.
    """

    reason: str
    message: str
    valid: bool = False
    stalls: bool = True
    carried_out: bool = False


def status(seen: Observation, obstacle: Obstacle | None, now: str) -> Object:
    """The whole status. `now`: an RFC 3339 time; a condition whose status did not change keeps its time."""
    former, rollout, held = seen.body.get("status", {}), seen.rollout, _held(seen, obstacle, now)
    result = {
        "observedGeneration": seen.body["metadata"]["generation"],
        "conditions": [_written(type_, holding, seen.body, now) for type_, holding in held.items()],
        "replicas": rollout.existing,
        "readyReplicas": rollout.ready,
        "readiness": f"{rollout.ready}/{rollout.wanted}",
        "selector": ",".join(f"{key}={value}" for key, value in selector(seen.name).items()),
    }
    urls = {key: former.get(key) for key in ("url", "clusterUrl")}
    if seen.service is not None:
        urls = {"url": seen.service.url, "clusterUrl": seen.service.cluster_url}
    sized = seen.sized
    known = {"model": sized.model, "memory": sized.memory, "chosen": sized.chosen} if sized else former
    more = urls | {key: known.get(key) for key in ("model", "memory", "chosen")}
    return result | {key: value for key, value in more.items() if value}


def _written(type_: str, holding: Holding, body: Object, now: str) -> Object:
    """A condition as it is stored."""
    holds, reason, message = holding
    status_ = {True: "True", False: "False", None: "Unknown"}[holds]
    before = condition_of(body.get("status", {}), type_)
    return {
        "type": type_,
        "status": status_,
        "reason": reason,
        "message": message,
        "lastTransitionTime": before["lastTransitionTime"] if before and before["status"] == status_ else now,
        "observedGeneration": body["metadata"]["generation"],
    }


def _held(seen: Observation, obstacle: Obstacle | None, now: str) -> dict[str, Holding]:
    """Each condition that there is to be."""
    service, rollout = seen.service, seen.rollout
    is_suspended = service is not None and service.spec.suspend
    scaling = autoscaling.held(seen.autoscaler, seen.metrics)
    routed = None
    if service is not None:
        routed = routes.held(service, {kind: seen.own(kind) for kind in routes.KINDS})
    ready = _ready(seen, rollout, obstacle, now)
    if ready[0] and obstacle is None:
        ready = _with_scaling(ready, seen, scaling, now)
        if routed is not None and routed[0] is False and ready[1] == SERVING:
            ready = True, routed[1], f"{ready[2]}; {routed[2]}"
        if seen.contention is not None:
            ready = True, CONTENDED, f"{ready[2]}; {seen.contention}"
    held = {
        "Valid": _valid(obstacle),
        "Available": _available(rollout, condition_of(seen.body.get("status", {}), "Available")),
        "Progressing": _progressing(seen, rollout, obstacle),
        "Ready": ready,
    }
    if service is not None and service.spec.autoscaling is not None and not is_suspended:
        held["ScalingActive"] = scaling
    if routed is not None:
        held["Routed"] = routed
    if seen.lacks_gpu is not None and seen.running is not None and not is_suspended:
        held[NO_SPARE_GPU] = _no_spare_gpu(rollout, lacks_gpu=seen.lacks_gpu)
    if obstacle is not None and obstacle.stalls:
        held["Stalled"] = (True, obstacle.reason, obstacle.message)
    if (fits := _fits(seen)) is not None:
        held["Fits"] = fits
    return held


def is_carried_out(body: Object) -> bool:
    """Whether the status says that the present generation was accepted, and nothing stood in its way."""
    status_ = body.get("status", {})
    valid, ready = condition_of(status_, "Valid"), condition_of(status_, "Ready")
    return (
        status_.get("observedGeneration") == body["metadata"]["generation"]
        and valid is not None
        and valid["status"] == "True"
        and ready is not None
        and ready["reason"] not in _NOT_CARRIED_OUT
        and (ready["reason"] != TROUBLE or ready["status"] == "True")
    )


def is_first_start(status: Object) -> bool:
    """Whether the first pods of a service are on their way, and nothing says that they will not answer."""
    available, ready = condition_of(status, "Available"), condition_of(status, "Ready")
    goes_on = ready is not None and ready["reason"] in PASSING
    return goes_on and available is not None and available["reason"] == NO_POD_READY_YET


def _valid(obstacle: Obstacle | None) -> Holding:
    if obstacle is not None and not obstacle.valid:
        return False, obstacle.reason, obstacle.message
    return True, ACCEPTED, "the spec can be carried out"


def _fits(seen: Observation) -> Holding | None:
    """As it stands, or else as it was said of this very spec."""
    if seen.sized is not None:
        verdict = seen.sized.verdict
        return verdict.fits, verdict.reason, verdict.message
    former = condition_of(seen.body.get("status", {}), "Fits")
    if former is None or former["observedGeneration"] != seen.body["metadata"]["generation"]:
        return None
    return {"True": True, "False": False}.get(former["status"]), former["reason"], former["message"]


def _available(rollout: Rollout, former: Object | None) -> Holding:
    """The reason keeps whether one has answered since pods are wanted."""
    said = f"{rollout.ready} of {rollout.wanted} replicas answer"
    if rollout.ready:
        return True, POD_READY, said
    if rollout.wanted == 0 and rollout.existing == 0:
        return False, NO_POD_WANTED, said
    none_yet = former is None or former["reason"] in (NO_POD_WANTED, NO_POD_READY_YET)
    return False, NO_POD_READY_YET if none_yet else NO_POD_READY, said


def _progressing(seen: Observation, rollout: Rollout, obstacle: Obstacle | None) -> Holding:
    service = seen.service
    if seen.running is None:
        if obstacle is not None:
            return False, obstacle.reason, "nothing is made before Ready is"
        return False, STARTING, "nothing runs its pods yet"
    if not rollout.settled:
        how = (
            "an old pod ends first, one at a time"
            if rollout.makes_room
            else "a new pod is ready before an old one ends"
        )
        asked = service.spec.rollout.strategy if service else "auto"
        said = f"pods are being replaced by pods of the present spec: {how} (rollout.strategy {asked}"
        return True, ROLLING_OUT, f"{said}, {rollout.wanted} replicas)"
    if rollout.existing != rollout.wanted or rollout.ready != rollout.wanted:
        return True, SCALING, f"{rollout.ready} of {rollout.wanted} replicas answer"
    if obstacle is not None and not obstacle.carried_out:
        return False, obstacle.reason, "nothing is changed before Ready is"
    if service is not None and service.spec.suspend:
        return False, SUSPENDED, "no pod is left"
    if seen.queued is not None:
        return False, QUEUED, f"what the operator brings is rolled out to one service after another: {seen.queued}"
    return False, SERVING if rollout.wanted else SCALED_TO_ZERO, "every replica runs the present spec"


def _no_spare_gpu(rollout: Rollout, *, lacks_gpu: bool) -> Holding:
    if not lacks_gpu:
        said = "a new pod is ready before an old one ends; where a rollout finds no GPU for it, an old one ends first"
        return False, SURGES, said
    if rollout.wanted > 1:
        return True, DRAINS_FIRST, "there is no GPU for a new pod beside the old ones: they end first, one at a time"
    return (
        True,
        WAITS_FOR_GPU,
        (
            "there is no GPU for the new pod, and the only one that answers is not ended for it: free a GPU, or set "
            "spec.rollout.strategy: recreate, and the service does not answer meanwhile"
        ),
    )


def _ready(seen: Observation, rollout: Rollout, obstacle: Obstacle | None, now: str) -> Holding:
    answers = rollout.ready > 0 and rollout.settled
    if obstacle is not None:
        return obstacle.carried_out and answers, obstacle.reason, obstacle.message
    if seen.running is not None and rollout.wanted == 0 and rollout.existing == 0:
        if seen.service is not None and seen.service.spec.suspend:
            return True, SUSPENDED, "spec.suspend is true, so no pod runs; all else is kept"
        return True, SCALED_TO_ZERO, f"replicas is 0, as asked for; kubectl scale llmservice {seen.name} --replicas=1"
    counted = f"{rollout.ready} of {rollout.wanted} replicas answer"
    if rollout.ready and not rollout.settled:
        counted += ", some of them by the former spec"
    problem = _problem(seen, rollout, now)
    if problem is not None and (rollout.ready < max(rollout.wanted, rollout.existing) or not rollout.settled):
        return answers, problem.reason, f"{counted}; {problem.message}"
    doing = diagnosis.starting(seen.pods)
    if answers:
        return True, SERVING, counted if doing is None else f"{counted}; {doing}"
    if rollout.ready:
        return False, ROLLING_OUT, counted + (f"; {doing}" if doing else "")
    return False, STARTING, f"{counted}; {doing or 'pods are being created'}"


def _problem(seen: Observation, rollout: Rollout, now: str) -> diagnosis.Problem | None:
    """What keeps pods from answering, or a rollout from going on."""
    problem = diagnosis.root_cause(seen.pods, seen.pod_events)
    if problem is not None and problem.reason == diagnosis.OOM_KILLED and not problem.elsewhere:
        advised = seen.sized.verdict.advised if seen.sized else None
        said = f"; Fits advises spec.resources.memory {advised}" if advised else ""
        return replace(problem, message=f"{problem.message}{said}")
    if problem is None and (refusal := rollout.refusal or seen.refusal):
        problem = diagnosis.Problem(PODS_REFUSED, refused(refusal), wants_room="exceeded quota" in refusal)
    if problem is None:
        moment = datetime.fromisoformat(now)
        weights = ((seen.sized and seen.sized.memory) or {}).get("weights", 0)
        problem = standstill.root_cause(seen.running, rollout, seen.pods, seen.pod_events, moment, weights)
    stands = rollout.ready > 0 and not rollout.settled and not rollout.makes_room
    if problem is not None and problem.wants_room and stands:
        way = "or set spec.rollout.strategy: recreate, and the old pod makes room for it, and does not answer meanwhile"
        return diagnosis.Problem(problem.reason, f"{problem.message}; {way}")
    return problem


def _with_scaling(ready: Holding, seen: Observation, scaling: Holding, now: str) -> Holding:
    """Ready, and what is wrong with the number of pods where nothing else is."""
    _, reason, message = ready
    service, autoscaler = seen.service, seen.autoscaler
    if reason not in (SERVING, SCALED_TO_ZERO) or service is None:
        return ready
    if seen.rival is not None and service.replicas_said:
        remedy = "remove spec.replicas, or that autoscaler"
        said = f"{seen.rival} scales the Deployment, and spec.replicas says {service.spec.replicas}; {remedy}"
        return True, SCALED_BY_ANOTHER, f"{message}; {said}"
    if autoscaler is not None and not scaling[0] and autoscaling.has_failed_for_long(autoscaler, now):
        return True, autoscaling.FAILED, f"{message}; autoscaling does not work: {scaling[2]}"
    return ready
