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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources.metadata import selector
from octavo_operator.sizing import DOES_NOT_FIT, READING_MODEL, UNSUPPORTED, Verdict
from octavo_operator.status import autoscaling, diagnosis, routes
from octavo_operator.status.autoscaling import Metrics
from octavo_operator.status.condition import Holding, condition_of
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
POD_READY = "PodReady"
QUEUED = "Queued"
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
_HELD = (REFUSED, NAME_CONFLICT, READING_MODEL, DOES_NOT_FIT, UNSUPPORTED, *_OF_CACHE)


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


@dataclass(frozen=True)
class Sized:
    """What is known of the model and of the memory that it takes: the condition Fits, and the parts of the status."""

    verdict: Verdict
    model: Object | None = None
    memory: Object | None = None
    chosen: Object | None = None


def status(
    body: Object,
    service: LLMService | None,
    obstacle: Obstacle | None,
    running: Object | None,
    pods: list[Object],
    now: str,
    *,
    events: Mapping[str, Sequence[Object]] | None = None,
    autoscaler: Object | None = None,
    rival: str | None = None,
    contention: str | None = None,
    metrics: Metrics | None = None,
    sized: Sized | None = None,
    lacks_gpu: bool | None = None,
    queued: str | None = None,
    standing_routes: Mapping[str, Object | None] | None = None,
) -> Object:
    """The whole status. `body` is the stored LLMService, `service` its parsed form (None if the spec is invalid),
    `now` an RFC 3339 time; a condition whose status did not change keeps its time. `running`:
    the service's Deployment or LeaderWorkerSet; `events`: of pods, by name; `autoscaler`: the service's own; `rival`:
    what else scales it, against spec.replicas; `contention`: that
    two operators would serve the namespace, in words; `metrics`: None where the operator brings none; `lacks_gpu`: see
    control.room; `queued`: what a pod template that the operator brings waits for, in words; `sized`: None where the
    round did not come to it, and what was known before stays; `standing_routes`: the service's own, by kind."""
    rollout = Rollout.of(running, pods)
    is_suspended = service is not None and service.spec.suspend
    routed = routes.held(service, standing_routes or {}) if service is not None else None
    ready = _ready(obstacle, rollout, pods, events or {}, body["metadata"]["name"], running, is_suspended)
    scaling = autoscaling.held(autoscaler, metrics)
    if ready[0] and obstacle is None:
        ready = _with_scaling(ready, service, autoscaler, rival, scaling, now)
        if routed is not None and routed[0] is False and ready[1] == SERVING:
            ready = True, routed[1], f"{ready[2]}; {routed[2]}"
        if contention is not None:
            ready = True, CONTENDED, f"{ready[2]}; {contention}"
    holds = {
        "Valid": _valid(obstacle),
        "Available": _available(rollout),
        "Progressing": _progressing(rollout, running, service, obstacle, queued),
        "Ready": ready,
    }
    if service is not None and service.spec.autoscaling is not None and not is_suspended:
        holds["ScalingActive"] = scaling
    if routed is not None:
        holds["Routed"] = routed
    if lacks_gpu is not None and running is not None and not is_suspended:
        holds["NoSpareGPU"] = _no_spare_gpu(rollout, lacks_gpu=lacks_gpu)
    if obstacle is not None and obstacle.stalls:
        holds["Stalled"] = (True, obstacle.reason, obstacle.message)
    former = body.get("status", {})
    fits = _fits(body, sized)
    if fits is not None:
        holds["Fits"] = fits
    times = {(item["type"], item["status"]): item["lastTransitionTime"] for item in former.get("conditions", [])}
    conditions = []
    for type_, (holding, reason, message) in holds.items():
        word = {True: "True", False: "False", None: "Unknown"}[holding]
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
        "observedGeneration": body["metadata"]["generation"],
        "conditions": conditions,
        "replicas": rollout.existing,
        "readyReplicas": rollout.ready,
        "readiness": f"{rollout.ready}/{rollout.wanted}",
        "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
    }
    urls = {key: former.get(key) for key in ("url", "clusterUrl")}
    if service is not None:
        urls = {"url": service.url, "clusterUrl": service.cluster_url}
    known = {"model": sized.model, "memory": sized.memory, "chosen": sized.chosen} if sized else former
    more = urls | {key: known.get(key) for key in ("model", "memory", "chosen")}
    return result | {key: value for key, value in more.items() if value}


def is_carried_out(body: Object) -> bool:
    """Whether the status says that the present generation was accepted, and nothing stood in its way."""
    status_ = body.get("status", {})
    valid, ready = condition_of(status_, "Valid"), condition_of(status_, "Ready")
    return (
        status_.get("observedGeneration") == body["metadata"]["generation"]
        and valid is not None
        and valid["status"] == "True"
        and ready is not None
        and ready["reason"] not in _HELD
        and (ready["reason"] != TROUBLE or ready["status"] == "True")
    )


def _valid(obstacle: Obstacle | None) -> Holding:
    if obstacle is not None and not obstacle.valid:
        return False, obstacle.reason, obstacle.message
    return True, ACCEPTED, "the spec can be carried out"


def _fits(body: Object, sized: Sized | None) -> Holding | None:
    """As it stands, or else as it was said of this very spec."""
    if sized is not None:
        return sized.verdict.fits, sized.verdict.reason, sized.verdict.message
    former = condition_of(body.get("status", {}), "Fits")
    if former is None or former["observedGeneration"] != body["metadata"]["generation"]:
        return None
    return {"True": True, "False": False}.get(former["status"]), former["reason"], former["message"]


def _available(rollout: Rollout) -> Holding:
    if rollout.ready:
        return True, POD_READY, f"{rollout.ready} of {rollout.wanted} replicas answer"
    return False, NO_POD_READY, f"0 of {rollout.wanted} replicas answer"


def _progressing(
    rollout: Rollout,
    running: Object | None,
    service: LLMService | None,
    obstacle: Obstacle | None,
    queued: str | None,
) -> Holding:
    if running is None:
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
    if queued is not None:
        return False, QUEUED, f"what the operator brings is rolled out to one service after another: {queued}"
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


def _ready(
    obstacle: Obstacle | None,
    rollout: Rollout,
    pods: list[Object],
    events: Mapping[str, Sequence[Object]],
    name: str,
    running: Object | None,
    is_suspended: bool,
) -> Holding:
    answers = rollout.ready > 0 and rollout.settled
    if obstacle is not None:
        return obstacle.carried_out and answers, obstacle.reason, obstacle.message
    if running is not None and rollout.wanted == 0 and rollout.existing == 0:
        if is_suspended:
            return True, SUSPENDED, "spec.suspend is true, so no pod runs; all else is kept"
        return True, SCALED_TO_ZERO, f"replicas is 0, as asked for; kubectl scale llmservice {name} --replicas=1"
    counted = f"{rollout.ready} of {rollout.wanted} replicas answer"
    if rollout.ready and not rollout.settled:
        counted += ", some of them by the former spec"
    problem = _problem(rollout, pods, events)
    if problem is not None and (rollout.ready < max(rollout.wanted, rollout.existing) or not rollout.settled):
        return answers, problem.reason, f"{counted}; {problem.message}"
    doing = diagnosis.starting(pods)
    if answers:
        return True, SERVING, counted if doing is None else f"{counted}; {doing}"
    if rollout.ready:
        return False, ROLLING_OUT, counted + (f"; {doing}" if doing else "")
    return False, STARTING, f"{counted}; {doing or 'pods are being created'}"


def _problem(rollout: Rollout, pods: list[Object], events: Mapping[str, Sequence[Object]]) -> diagnosis.Problem | None:
    """What keeps pods from answering, or a rollout from going on."""
    problem = diagnosis.root_cause(pods, events)
    if problem is None and rollout.refusal:
        return diagnosis.Problem(PODS_REFUSED, f"the API server refuses pods: {rollout.refusal}")
    stands = rollout.ready > 0 and not rollout.settled and not rollout.makes_room
    if problem is not None and problem.wants_room and stands:
        way = "or set spec.rollout.strategy: recreate, and the old pod makes room for it, and does not answer meanwhile"
        return diagnosis.Problem(problem.reason, f"{problem.message}; {way}")
    return problem


def _with_scaling(
    ready: Holding, service: LLMService | None, autoscaler: Object | None, rival: str | None, scaling: Holding, now: str
) -> Holding:
    """Ready, and what is wrong with the number of pods where nothing else is."""
    _, reason, message = ready
    if reason not in (SERVING, SCALED_TO_ZERO) or service is None:
        return ready
    if rival is not None:
        remedy = "remove spec.replicas, or that autoscaler"
        said = f"{rival} scales the Deployment, and spec.replicas says {service.spec.replicas}; {remedy}"
        return True, SCALED_BY_ANOTHER, f"{message}; {said}"
    if autoscaler is not None and not scaling[0] and autoscaling.has_failed_for_long(autoscaler, now):
        return True, autoscaling.FAILED, f"{message}; autoscaling does not work: {scaling[2]}"
    return ready
