"""Makes the cluster hold what an LLMService asks for. Idempotent: run again, it finds nothing to do."""

import asyncio
import datetime
import logging
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from octavo_operator import kinds, resources
from octavo_operator.api import KIND, InvalidSpec, LLMService, parse, targets
from octavo_operator.cluster import FIELD_MANAGER, Applied, Event, Forbidden, Refused, Stale
from octavo_operator.control import metrics_endpoint, ownership, replicas, rollout, room, sizing
from octavo_operator.control.claims import Claims
from octavo_operator.control.drift import holds, repaired, stamp
from octavo_operator.control.sizing import Sizing
from octavo_operator.control.turns import Turns
from octavo_operator.metrics_api.downloads import Downloads
from octavo_operator.metrics_api.measurements import Measurements
from octavo_operator.metrics_api.server import MetricsApi
from octavo_operator.resources import workload
from octavo_operator.resources.leader_worker_set import leads
from octavo_operator.settings import Settings
from octavo_operator.status import autoscaling, conditions, diagnosis, routes
from octavo_operator.status.autoscaling import Metrics
from octavo_operator.status.condition import condition_of
from octavo_operator.status.conditions import PASSING, REFUSED, TROUBLE, Obstacle, Sized
from octavo_operator.status.rollout import Rollout

logger = logging.getLogger(__name__)

Object = dict[str, Any]
Observed = dict[tuple[str, str], Object | None]  # (kind, name) -> the live object

_AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
_ROUTES = ("Ingress", "HTTPRoute")
_RUNNING = (*workload.KINDS, *_AUTOSCALERS)  # what starts and replaces pods
_PODS_ASKED_FOR = 3  # events are asked for of so many pods at most: one cause is told


class Cluster(Protocol):
    """What reconciling needs of a connection to the API server."""

    async def get(self, kind: str, namespace: str, name: str) -> Object | None: ...
    async def pods(self, namespace: str, service_name: str) -> list[Object]: ...
    async def pod_events(self, namespace: str, pod: str) -> list[Object]: ...
    async def autoscalers(self, namespace: str) -> list[Object]: ...
    async def jobs(self, namespace: str, service_name: str) -> list[Object]: ...
    async def job_pods(self, namespace: str, job: str) -> list[Object]: ...
    async def nodes(self, selector: str) -> list[Object]: ...
    async def apply(self, desired: Object, live: Object | None) -> Applied: ...
    async def repair(self, live: Object, content: Object) -> None: ...
    async def hand_over_replicas(self, workload: Object, replicas: int) -> None: ...
    async def delete(self, live: Object) -> None: ...
    async def write_status(self, service: Object, status: Object) -> None: ...
    async def record(self, service: Object, event: Event) -> None: ...


class Outcome(Enum):
    GONE = "the service is gone; its objects go with it"
    SETTLED = "nothing to do until something changes"
    WAITING = "pods are on their way, and what holds them up may be told in events, which are not watched"
    ELSEWHERE = "another installation of the operator serves its namespace"
    BLOCKED = "something that is not watched must change first: look again soon"
    REPAIRED = "what others wrote was taken away; they may write it again"
    FAILED = "the API server did not do as asked: try again"


@dataclass
class _Round:
    """What a round has seen and done. It grows as the round goes on, so that whatever ends it can be told."""

    body: Object
    service: LLMService | None = None
    observed: Observed = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)
    pod_events: dict[str, list[Object]] = field(default_factory=dict)
    rival: str | None = None
    contention: str | None = None
    metrics: Metrics | None = None
    sized: Sized | None = None
    lacks_gpu: bool | None = None
    queued: str | None = None
    events: list[Event] = field(default_factory=list)
    repaired: bool = False

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    def own(self, kind: str, name: str) -> Object | None:
        """A live object, None if there is none that is the service's."""
        live = self.observed.get((kind, name))
        return live if live is not None and ownership.owns(self.body["metadata"]["uid"], live) else None

    @property
    def running(self) -> Object | None:
        """The service's own workload: of the kind that it is to have, else the other, which goes once that is there."""
        found = {kind: own for kind in workload.KINDS if (own := self.own(kind, self.name)) is not None}
        wanted = None if self.service is None else found.get(workload.kind(self.service))
        return wanted or workload.of(found)

    @property
    def leaders(self) -> list[Object]:
        """The pods that answer clients and tell of themselves."""
        return [pod for pod in self.pods if leads(pod)]

    @property
    def autoscaler(self) -> Object | None:
        """The service's own."""
        return next((found for kind in _AUTOSCALERS if (found := self.own(kind, self.name))), None)


async def reconcile(
    cluster: Cluster,
    claims: Claims,
    turns: Turns,
    metrics_api: MetricsApi,
    measurements: Measurements,
    downloads: Downloads,
    settings: Settings,
    namespace: str,
    name: str,
) -> Outcome:
    """One round: read everything, write what differs, say how it stands. Whatever trouble it meets stands in the
    status; only where that cannot be read or written, or the world changed meanwhile, does it raise. The next round
    starts from what is then there."""
    body = await cluster.get(KIND, namespace, name)
    if body is None or "deletionTimestamp" in body["metadata"]:
        _forget(metrics_api, measurements, downloads, turns, (namespace, name))
        return Outcome.GONE
    claim = await claims.of(namespace)
    if claim.holder != claims.installation:
        _forget(metrics_api, measurements, downloads, turns, (namespace, name))
        return Outcome.ELSEWHERE  # its status too is the other's: two that write one in turns help nobody
    seen = _Round(body, contention=claim.contention)
    obstacle: Obstacle | None = None
    try:
        obstacle = await _carry_out(cluster, turns, metrics_api, measurements, downloads, settings, seen)
    except Stale:
        raise
    except InvalidSpec as error:
        obstacle = Obstacle(conditions.INVALID_SPEC, str(error))
    except Forbidden as error:
        obstacle = Obstacle(REFUSED, str(error), valid=True, stalls=False)
    except Refused as error:
        obstacle = Obstacle(REFUSED, str(error))
    except Exception as error:
        # A round may fail in as many ways as the network and the API server; none may leave a service without a status.
        logger.warning("%s/%s: will try again: %s", namespace, name, one_line(error))
        logger.debug("%s/%s", namespace, name, exc_info=True)
        obstacle = Obstacle(
            TROUBLE, one_line(error), valid=True, stalls=False, carried_out=conditions.is_carried_out(body)
        )
    if obstacle is not None and not rollout.is_in_turn(seen.running):
        turns.leave((namespace, name))  # it cannot use it, and others can
    await _tell(cluster, seen, obstacle)
    return _outcome(seen, obstacle)


def _forget(
    metrics_api: MetricsApi, measurements: Measurements, downloads: Downloads, turns: Turns, service: tuple[str, str]
) -> None:
    """What was kept of a service that is gone, or another's."""
    metrics_api.readings.forget(service)
    measurements.forget(service)
    downloads.forget(service)
    metrics_endpoint.services.forget(service)
    turns.leave(service)


def one_line(error: Exception) -> str:
    """What happened, in words; of an error that was not thought of, its kind too."""
    words = " ".join(str(error).split())[:600]
    return words if type(error).__module__.startswith("octavo_") and words else f"{type(error).__name__}: {words}"


async def _carry_out(
    cluster: Cluster,
    turns: Turns,
    metrics_api: MetricsApi,
    measurements: Measurements,
    downloads: Downloads,
    settings: Settings,
    seen: _Round,
) -> Obstacle | None:
    """See, and write what differs; what stands in the way, if that is no error of the API server's."""
    namespace = seen.body["metadata"]["namespace"]
    owned = kinds.owned(seen.name)
    found, pods = await asyncio.gather(
        asyncio.gather(*(_standing(cluster, kind, namespace, child) for kind, child in owned)),
        cluster.pods(namespace, seen.name),
    )
    seen.observed = dict(zip(owned, found, strict=True))
    try:
        seen.service = parse(seen.body)
    finally:
        if seen.running is not None:
            seen.pods = [pod for pod in pods if workload.is_of(pod, seen.running)]
    kind = workload.kind(seen.service)
    live = seen.own(kind, seen.name)
    _ask_for_metrics(metrics_api, seen)
    resources.check(seen.service, settings)
    if replicas.may_have_a_rival(seen.service, live):
        seen.rival = _rival(seen, await cluster.autoscalers(namespace))
    count = replicas.decide(seen.service, live, seen.rival, seen.autoscaler)
    seen.lacks_gpu = room.lacks_gpu(seen.service, live, seen.pods)
    now = datetime.datetime.now(datetime.UTC)
    sized = await sizing.look(cluster, downloads, settings, seen.service, seen.body, count, now)
    built = resources.build(sized.service, settings, count, makes_room=bool(seen.lacks_gpu))
    objects = {(item["kind"], item["metadata"]["name"]): item for item in built}
    key = kind, seen.name
    objects[key], seen.queued = await rollout.arranged(turns, sized.service, settings, objects[key], live)
    wanted = {key: stamp(item) for key, item in objects.items()}
    obstacle = ownership.conflict(seen.body, {key: seen.observed[key] for key in wanted})
    if obstacle is None:
        held = sized.holds is not None
        await _apply(cluster, seen, wanted, held=held)
        sized = await _read_model(cluster, seen, sized)
        if held and sized.holds is None:
            await _apply(cluster, seen, wanted, held=False)
        obstacle = sized.holds
    tokens = measurements.tokens((namespace, seen.name), seen.leaders)
    seen.sized = sizing.measured(sized.sized, tokens, seen.body.get("status", {}))
    await _ask_for_events(cluster, seen)
    return obstacle


async def _standing(cluster: Cluster, kind: str, namespace: str, name: str) -> Object | None:
    """What there is. A chart of an earlier version gives no right to kinds that came later."""
    try:
        return await cluster.get(kind, namespace, name)
    except Forbidden:
        if kind in ("LeaderWorkerSet", "ScaledObject", *_ROUTES):
            return None
        raise


def _rival(seen: _Round, autoscalers: Sequence[Object]) -> str | None:
    """What else scales the workload. KEDA's, for the service's own ScaledObject, goes a moment later."""
    assert seen.service is not None
    rival = replicas.rival(workload.kind(seen.service), seen.name, autoscalers)
    standing = seen.observed["ScaledObject", seen.name]
    is_own = standing is None or seen.own("ScaledObject", seen.name) is not None
    return None if is_own and rival == f"ScaledObject {seen.name}" else rival


def _ask_for_metrics(metrics_api: MetricsApi, seen: _Round) -> None:
    """Have the pods asked for what the autoscaler will ask for; see what they said so far."""
    assert seen.service is not None
    key = seen.service.key
    autoscaling = None if seen.service.spec.suspend else seen.service.spec.autoscaling
    wanted = targets.of_engine(autoscaling.targets) if autoscaling is not None else []
    if autoscaling is None or autoscaling.provider != "builtin" or not wanted:
        metrics_api.readings.forget(key)
        return
    metrics_api.readings.watch(key, [target for target, _ in wanted], seen.leaders)
    silent = {f"{target.name} ({target.path})": why for target, why in metrics_api.readings.silent(key).items()}
    seen.metrics = Metrics(metrics_api.trouble, silent)


async def _read_model(cluster: Cluster, seen: _Round, sized: Sizing) -> Sizing:
    """Make the Job that reads or downloads the model, and remove those that are done. Of one that reads alone, what the
    API server refuses it holds nothing up."""
    for job in sized.done:
        if ownership.owns(seen.body["metadata"]["uid"], job) and "deletionTimestamp" not in job["metadata"]:
            await cluster.delete(job)
    for item in sized.make:
        said = f"{item['kind']} {item['metadata']['name']}"
        try:
            await cluster.apply(item, None)
        except Refused as error:
            if sized.service.spec.model.cache is not None:
                raise type(error)(f"{said}: {error}") from None
            return sizing.without_job(sized, f"{said}: {error}")
    return sized


async def _apply(cluster: Cluster, seen: _Round, wanted: dict[tuple[str, str], Object], *, held: bool) -> None:
    """Write what differs, but for what starts pods where that is `held`. `seen` grows with what was done, also when the
    API server refuses one."""
    assert seen.service is not None
    if held:
        kept = {key for key in seen.observed if key[0] in _RUNNING}
        wanted = {key: desired for key, desired in wanted.items() if key not in kept}
    else:
        kept = set()
    if seen.service.spec.autoscaling is not None and not held:
        # KEDA does not take what another autoscaler scales.
        await _prune(cluster, seen, {key for key in seen.observed.keys() - wanted.keys() if key[0] in _AUTOSCALERS})
    for key, desired in wanted.items():
        live = seen.observed[key]
        if live is not None and (content := repaired(live, desired, FIELD_MANAGER)) is not None:
            live = await _repair(cluster, seen, key, live, content)
        if key[0] in workload.KINDS and live is not None:
            start = replicas.to_hand_over(seen.service, live)
            if start is not None:
                await cluster.hand_over_replicas(live, start)
                live = seen.observed[key] = await cluster.get(key[0], live["metadata"]["namespace"], key[1])
        if live is not None and holds(live, desired):
            continue
        try:
            applied = await cluster.apply(desired, live)
        except Refused as error:
            raise type(error)(f"{key[0]} {key[1]}: {error}") from None
        seen.observed[key] = applied.object
        if applied.change:
            seen.events.append(Event(applied.change, f"{applied.change.lower()} {key[0]} {key[1]}"))
    await _prune(cluster, seen, seen.observed.keys() - wanted.keys() - kept)


async def _prune(cluster: Cluster, seen: _Round, unwanted: Set[tuple[str, str]]) -> None:
    """Delete what the service has and is not to have."""
    for key in sorted(unwanted):
        live = seen.own(*key)
        if live is not None and "deletionTimestamp" not in live["metadata"]:
            await cluster.delete(live)
            seen.observed[key] = None
            seen.events.append(Event("Deleted", f"deleted {key[0]} {key[1]}"))


async def _repair(cluster: Cluster, seen: _Round, key: tuple[str, str], live: Object, content: Object) -> Object | None:
    """Take away what others wrote into an object; the object as it then is."""
    try:
        await cluster.repair(live, content)
    except Refused as error:
        raise type(error)(f"{key[0]} {key[1]}: what others wrote into it cannot be taken away: {error}") from None
    seen.repaired = True
    seen.events.append(Event("Repaired", f"took away what others wrote into {key[0]} {key[1]}"))
    seen.observed[key] = await cluster.get(key[0], live["metadata"]["namespace"], key[1])
    return seen.observed[key]


async def _ask_for_events(cluster: Cluster, seen: _Round) -> None:
    """Events of the newest pods that do not answer. A chart of an earlier version gives no right to list them."""
    silent = [pod for pod in diagnosis.newest_first(seen.pods) if diagnosis.wants_events(pod)]
    for pod in silent[:_PODS_ASKED_FOR]:
        try:
            seen.pod_events[pod["metadata"]["name"]] = await cluster.pod_events(
                pod["metadata"]["namespace"], pod["metadata"]["name"]
            )
        except Forbidden as error:
            logger.debug("%s: %s", pod["metadata"]["name"], error)
            return


async def _tell(cluster: Cluster, seen: _Round, obstacle: Obstacle | None) -> None:
    """Write the status where it changed, and an event of each thing that happened."""
    body = seen.body
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    running = seen.running
    try:
        status = conditions.status(
            body,
            seen.service,
            obstacle,
            running,
            seen.pods,
            now,
            events=seen.pod_events,
            autoscaler=seen.autoscaler,
            metrics=seen.metrics,
            rival=seen.rival if seen.service and seen.service.replicas_said else None,
            contention=seen.contention,
            sized=seen.sized,
            lacks_gpu=seen.lacks_gpu,
            queued=seen.queued,
            standing_routes={kind: seen.own(kind, seen.name) for kind in _ROUTES},
        )
    except Exception as error:
        logger.exception("%s/%s: its pods cannot be read", body["metadata"]["namespace"], seen.name)
        obstacle = obstacle or Obstacle(
            TROUBLE, f"its pods cannot be read: {one_line(error)}", valid=True, stalls=False
        )
        status = conditions.status(body, seen.service, obstacle, None, [], now)
    key = (body["metadata"]["namespace"], seen.name)
    metrics_endpoint.services.tell(key, seen.service, status, running, seen.pods)
    seen.events += _turn(body.get("status", {}), status)
    if status != body.get("status"):
        await cluster.write_status(body, status)
    for event in seen.events:
        logger.info("%s/%s: %s: %s", body["metadata"]["namespace"], seen.name, event.reason, event.message)
        try:
            await cluster.record(body, event)
        except Refused as error:
            logger.warning("%s/%s: no event: %s", body["metadata"]["namespace"], seen.name, error)


def _outcome(seen: _Round, obstacle: Obstacle | None) -> Outcome:
    if obstacle is not None:
        outcomes = {conditions.INVALID_SPEC: Outcome.SETTLED, TROUBLE: Outcome.FAILED}
        return outcomes.get(obstacle.reason, Outcome.BLOCKED)
    if seen.repaired:
        return Outcome.REPAIRED
    # A ScaledObject is not watched, nor, by an operator for some namespaces that is older than its kind, a route or a
    # LeaderWorkerSet.
    scaled, route = seen.own("ScaledObject", seen.name), seen.own("HTTPRoute", seen.name)
    waiting = _anyone_on_the_way(seen.pods) or (scaled is not None and not autoscaling.is_ready(scaled))
    waiting = waiting or (route is not None and not routes.is_accepted(route))
    running = seen.own("LeaderWorkerSet", seen.name)
    waiting = waiting or (running is not None and not Rollout.of(running, seen.pods).is_complete)
    return Outcome.WAITING if waiting else Outcome.SETTLED


def _anyone_on_the_way(pods: Sequence[Object]) -> bool:
    return any(diagnosis.wants_events(pod) for pod in pods)


def _turn(former: Object, status: Object) -> list[Event]:
    """An event where Ready took another turn."""
    before, after = condition_of(former, "Ready"), condition_of(status, "Ready")
    assert after is not None
    if before is not None and (before["status"], before["reason"]) == (after["status"], after["reason"]):
        return []
    return [Event(after["reason"], after["message"], warning=after["reason"] not in PASSING)]
