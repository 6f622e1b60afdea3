"""Makes the cluster hold what an LLMService asks for. Idempotent: run again, it finds nothing to do."""

import asyncio
import datetime
import itertools
import logging
from collections.abc import Sequence
from enum import Enum
from typing import Any

from octavo_operator import kinds, resources
from octavo_operator.api import KIND, InvalidSpec, LLMService, parse, targets
from octavo_operator.cluster import Event, Forbidden, Refused, Stale
from octavo_operator.control import metrics_endpoint, ownership, replicas, rollout, room, sizing
from octavo_operator.control.apply import Changes, apply
from octavo_operator.control.drift import stamp
from octavo_operator.control.operator import Cluster, Operator
from octavo_operator.control.sizing import Sizing
from octavo_operator.metrics_api.server import MetricsApi
from octavo_operator.resources import metadata, workload
from octavo_operator.status import autoscaling, conditions, diagnosis, routes, standstill
from octavo_operator.status.autoscaling import Metrics
from octavo_operator.status.condition import condition_of
from octavo_operator.status.conditions import PASSING, REFUSED, TROUBLE, Obstacle
from octavo_operator.status.observation import Observation
from octavo_operator.status.pod_events import refusal

logger = logging.getLogger(__name__)

Object = dict[str, Any]

_ASKED_FOR = 3  # events are asked for of so many pods at most, and of so many sets of pods: one cause is told


class Outcome(Enum):
    GONE = "the service is gone; its objects go with it"
    SETTLED = "nothing to do until something changes"
    WAITING = "pods are on their way, and what holds them up may be told in events, which are not watched"
    ELSEWHERE = "another installation of the operator serves its namespace"
    BLOCKED = "something that is not watched must change first: look again soon"
    REPAIRED = "what others wrote was taken away; they may write it again"
    FAILED = "the API server did not do as asked: try again"


async def reconcile(operator: Operator, namespace: str, name: str) -> Outcome:
    """One round: read everything, write what differs, say how it stands. Whatever trouble it meets stands in the
    status; only where that cannot be read or written, or the world changed meanwhile, does it raise. The next round
    starts from what is then there."""
    body = await operator.cluster.get(KIND, namespace, name)
    if body is None or "deletionTimestamp" in body["metadata"]:
        operator.forget((namespace, name))
        return Outcome.GONE
    claim = await operator.claims.of(namespace)
    if claim.holder != operator.claims.installation:
        operator.forget((namespace, name))
        return Outcome.ELSEWHERE  # its status too is the other's: two that write one in turns help nobody
    seen, changes = Observation(body, contention=claim.contention), Changes()
    obstacle: Obstacle | None = None
    try:
        obstacle = await _carry_out(operator, seen, changes)
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
        operator.turns.leave((namespace, name))  # it cannot use it, and others can
    await _tell(operator.cluster, seen, changes, obstacle)
    return _outcome(seen, changes, obstacle)


def one_line(error: Exception) -> str:
    """What happened, in words; of an error that was not thought of, its kind too."""
    words = " ".join(str(error).split())[:600]
    return words if type(error).__module__.startswith("octavo_") and words else f"{type(error).__name__}: {words}"


async def _carry_out(operator: Operator, seen: Observation, changes: Changes) -> Obstacle | None:
    """See, and write what differs; what stands in the way, if that is no error of the API server's."""
    cluster, settings = operator.cluster, operator.settings
    service = await _look(cluster, seen)
    kind = workload.kind(service)
    live = seen.own(kind)
    _ask_for_metrics(operator.metrics_api, service, seen)
    resources.check(service, settings)
    if replicas.may_have_a_rival(service, live):
        seen.rival = _rival(kind, seen, await cluster.autoscalers(seen.namespace))
    count = replicas.decide(service, live, seen.rival, seen.autoscaler)
    seen.lacks_gpu = room.lacks_gpu(service, live, seen.pods, seen.body.get("status", {}))
    now = datetime.datetime.now(datetime.UTC)
    sized = await sizing.look(cluster, operator.downloads, settings, service, seen.body, count, now)
    makes_room = bool(seen.lacks_gpu) or room.stays_making_room(live, seen.pods)
    built = resources.build(sized.service, settings, count, makes_room=makes_room)
    objects = {(item["kind"], item["metadata"]["name"]): item for item in built}
    key = kind, seen.name
    objects[key], seen.queued = await rollout.arranged(operator.turns, sized.service, settings, objects[key], live)
    wanted = {key: stamp(item) for key, item in objects.items()}
    obstacle = ownership.conflict(seen.body, {key: seen.objects[key] for key in wanted})
    if obstacle is None:
        held = sized.holds is not None
        await apply(cluster, seen, wanted, changes, held=held)
        sized = await _read_model(cluster, seen, sized)
        if held and sized.holds is None:
            await apply(cluster, seen, wanted, changes, held=False)
        obstacle = sized.holds
    tokens = operator.measurements.tokens(seen.key, seen.leaders)
    seen.sized = sizing.measured(sized.sized, tokens, seen.body.get("status", {}))
    await _ask_for_events(cluster, seen)
    return obstacle


async def _look(cluster: Cluster, seen: Observation) -> LLMService:
    """See what there is. Raises InvalidSpec."""
    owned = kinds.owned(seen.name)
    found, pods = await asyncio.gather(
        asyncio.gather(*(_standing(cluster, kind, seen.namespace, name) for kind, name in owned)),
        cluster.pods(seen.namespace, seen.name),
    )
    seen.objects = dict(zip(owned, found, strict=True))
    try:
        seen.service = parse(seen.body)
    finally:
        if seen.running is not None:
            seen.pods = [pod for pod in pods if workload.is_of(pod, seen.running)]
    return seen.service


async def _standing(cluster: Cluster, kind: str, namespace: str, name: str) -> Object | None:
    """What there is. A chart of an earlier version gives no right to kinds that came later."""
    try:
        return await cluster.get(kind, namespace, name)
    except Forbidden:
        if kind in ("LeaderWorkerSet", "ScaledObject", *routes.KINDS):
            return None
        raise


def _rival(kind: str, seen: Observation, autoscalers: Sequence[Object]) -> str | None:
    """What else scales the workload. KEDA's, for the service's own ScaledObject, goes a moment later."""
    rival = replicas.rival(kind, seen.name, autoscalers)
    standing = seen.objects["ScaledObject", seen.name]
    is_own = standing is None or seen.own("ScaledObject") is not None
    return None if is_own and rival == f"ScaledObject {seen.name}" else rival


def _ask_for_metrics(metrics_api: MetricsApi, service: LLMService, seen: Observation) -> None:
    """Have the pods asked for what the autoscaler will ask for; see what they said so far."""
    key = service.key
    scaled = None if service.spec.suspend else service.spec.autoscaling
    wanted = targets.of_engine(scaled.targets) if scaled is not None else []
    if scaled is None or scaled.provider != "builtin" or not wanted:
        metrics_api.readings.forget(key)
        return
    metrics_api.readings.watch(key, [target for target, _ in wanted], seen.leaders)
    silent = {f"{target.name} ({target.path})": why for target, why in metrics_api.readings.silent(key).items()}
    seen.metrics = Metrics(metrics_api.trouble, silent)


async def _read_model(cluster: Cluster, seen: Observation, sized: Sizing) -> Sizing:
    """Make the Job that reads or downloads the model, and remove those that are done. Of one that reads alone, what the
    API server refuses it holds nothing up."""
    for job in sized.done:
        if metadata.owns(seen.body["metadata"]["uid"], job) and "deletionTimestamp" not in job["metadata"]:
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


async def _ask_for_events(cluster: Cluster, seen: Observation) -> None:
    """Events of the newest pods that do not answer, and of what should make those that are missing. A chart of an
    earlier version gives no right to list them."""
    silent = [pod for pod in diagnosis.newest_first(seen.pods) if diagnosis.wants_events(pod)]
    try:
        for pod in silent[:_ASKED_FOR]:
            name = pod["metadata"]["name"]
            seen.pod_events[name] = await cluster.events("Pod", seen.namespace, name)
        for name, since in itertools.islice(seen.rollout.short.items(), _ASKED_FOR):
            seen.refusal = seen.refusal or refusal(await cluster.events("StatefulSet", seen.namespace, name), since)
    except Forbidden as error:
        logger.debug("%s/%s: %s", *seen.key, error)


async def _tell(cluster: Cluster, seen: Observation, changes: Changes, obstacle: Obstacle | None) -> None:
    """Write the status where it changed, and an event of each thing that happened."""
    body = seen.body
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        status = conditions.status(seen, obstacle, now)
    except Exception as error:
        logger.exception("%s/%s: its pods cannot be read", *seen.key)
        obstacle = obstacle or Obstacle(
            TROUBLE, f"its pods cannot be read: {one_line(error)}", valid=True, stalls=False
        )
        status = conditions.status(Observation(body, seen.service), obstacle, now)
    metrics_endpoint.services.tell(seen, status)
    changes.events += _turn(body.get("status", {}), status)
    if status != body.get("status"):
        await cluster.write_status(body, status)
    for event in changes.events:
        logger.info("%s/%s: %s: %s", *seen.key, event.reason, event.message)
        try:
            await cluster.record(body, event)
        except Refused as error:
            logger.warning("%s/%s: no event: %s", *seen.key, error)


def _outcome(seen: Observation, changes: Changes, obstacle: Obstacle | None) -> Outcome:
    if obstacle is not None:
        outcomes = {conditions.INVALID_SPEC: Outcome.SETTLED, TROUBLE: Outcome.FAILED}
        return outcomes.get(obstacle.reason, Outcome.BLOCKED)
    if changes.repaired:
        return Outcome.REPAIRED
    scaled = seen.own("ScaledObject")  # is not watched
    on_the_way = _anyone_on_the_way(seen.pods) or seen.rollout.short
    waiting = on_the_way or (scaled is not None and not autoscaling.is_ready(scaled))
    return Outcome.WAITING if waiting else Outcome.SETTLED


def _anyone_on_the_way(pods: Sequence[Object]) -> bool:
    """Or on their way out: nothing tells of a pod that its node does not end."""
    ending = any("deletionTimestamp" in pod["metadata"] for pod in pods)
    return ending or any(diagnosis.wants_events(pod) or standstill.is_unseen(pod) for pod in pods)


def _turn(former: Object, status: Object) -> list[Event]:
    """An event where Ready took another turn."""
    before, after = condition_of(former, "Ready"), condition_of(status, "Ready")
    assert after is not None
    if before is not None and (before["status"], before["reason"]) == (after["status"], after["reason"]):
        return []
    return [Event(after["reason"], after["message"], warning=after["reason"] not in PASSING)]
