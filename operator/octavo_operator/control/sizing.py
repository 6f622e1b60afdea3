"""Finds out whether a service's model fits what its pods will run on, by the spec or by nodes, before they start."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from octavo_operator import sizing
from octavo_operator.api import LLMService
from octavo_operator.api.quantities import amount
from octavo_operator.api.status import ChosenStatus
from octavo_operator.cluster import Forbidden
from octavo_operator.control import model_cache, model_reading
from octavo_operator.control.model_cache import Cached
from octavo_operator.control.model_reading import Reading
from octavo_operator.control.subject import Subject
from octavo_operator.resources import pod_template
from octavo_operator.resources.replicas import Replicas
from octavo_operator.scraping.downloads import Downloads
from octavo_operator.settings import Settings
from octavo_operator.sizing import Verdict
from octavo_operator.status import conditions
from octavo_operator.status.conditions import Obstacle
from octavo_operator.status.observation import Sized
from octavo_runtime.config.explain import explain
from octavo_runtime.planning.description import FoundModel
from octavo_runtime.planning.memory import MemoryPlan

Object = dict[str, Any]

_NODES = sizing.GPU_PRODUCT  # GPU feature discovery gives its labels to a node together


class Cluster(model_cache.Cluster, Protocol):
    """What sizing reads of the API server."""

    async def nodes(self, selector: str) -> list[Object]: ...


@dataclass(frozen=True)
class Sizing:
    """What came of it.

    Attributes:
        service: the service, with what was chosen of what its spec leaves open.
        sized: what its status says.
        holds: what keeps its pods from being started or replaced.
        make: objects that bring the model, to be made.
        done: Jobs that are not needed any more.
    """

    service: LLMService
    sized: Sized
    holds: Obstacle | None
    make: list[Object]
    done: list[Object]


async def look(
    cluster: Cluster,
    downloads: Downloads,
    settings: Settings,
    service: LLMService,
    body: Object,
    replicas: Replicas,
    now: datetime,
) -> Sizing:
    """Where it stands; writes nothing. `body`: the service as it is stored; `replicas`: of its workload."""
    template = pod_template.build(service, settings)
    subject = Subject(service, body, settings, template, _are_pods_wanted(service, replicas), now)
    cached: Cached | None = None
    if service.spec.model.cache is not None:
        cached = await model_cache.look(cluster, downloads, subject)
    reading = await _reading(cluster, subject, cached)
    former = _chosen_before(body)
    verdict = reading.found
    if not isinstance(verdict, Verdict):
        planned = await _planned(cluster, subject, verdict, former)
        spec = service.spec
        verdict = sizing.of_devices(planned, spec.accelerator.nodes, spec.engine.pipeline_parallel_size)
    chosen = former if verdict.fits is None else verdict.chosen
    holds = _holds(subject, cached, reading, verdict)
    make = [reading.job] if reading.job is not None else []
    if cached is not None:
        service = replace(service, cached=cached.folder)
        reading = replace(reading, model=cached.model, done=cached.done)
        make = cached.make
    told = ChosenStatus.model_validate(chosen).model_dump(by_alias=True, exclude_none=True)
    sized = Sized(verdict, reading.model, _memory(verdict.plan), told)
    return Sizing(_with(service, chosen), sized, holds, make, reading.done)


async def _reading(cluster: Cluster, subject: Subject, cached: Cached | None) -> Reading:
    """What the model is, from wherever that is known."""
    engine = pod_template.engine_of(subject.template)
    if engine is None or not pod_template.runs_as_asked(subject.service, engine):
        said = "spec.podTemplate sets command or args of the engine: what it runs by them is not known"
        return await model_reading.unread(cluster, subject, Verdict(None, sizing.NOT_PLANNED, said))
    if cached is not None:
        return _of_cache(cached)
    if subject.service.spec.model.uri.startswith("builtin://"):
        return await model_reading.builtin(cluster, subject)
    return await model_reading.read(cluster, subject)


def _holds(subject: Subject, cached: Cached | None, reading: Reading, verdict: Verdict) -> Obstacle | None:
    """What keeps pods from being started or replaced. Those of a spec that is carried out stay as they are."""
    if not subject.wanted:
        return None
    if cached is not None and cached.obstacle is not None:
        return cached.obstacle
    if conditions.is_carried_out(subject.body):
        return None
    if reading.waits:
        return Obstacle(verdict.reason, verdict.message, valid=True, stalls=False)
    if verdict.fits is False:
        return Obstacle(verdict.reason, verdict.message, valid=True)
    return None


def _chosen_before(body: Object) -> dict[str, Any]:
    """What the status says was chosen for this very spec, by the engine's names."""
    status = body.get("status") or {}
    if status.get("observedGeneration") != body["metadata"]["generation"]:
        return {}
    said = status.get("chosen") or {}
    return {name: said[key] for name in ChosenStatus.model_fields if (key := to_camel(name)) in said}


def _of_cache(cached: Cached) -> Reading:
    """What the model is, as the Job that downloaded it said."""
    if cached.model is not None and "folder" in cached.model:
        return Reading(model_reading.described(cached.model))
    return Reading(Verdict(None, sizing.READING_MODEL, "what the model is, is read once it is in the cache"))


def without_job(found: Sizing, why: str) -> Sizing:
    """The same, where the Job cannot be made: nothing waits for it."""
    if found.sized.model is not None:
        return replace(found, make=[])
    return replace(found, sized=Sized(model_reading.unreadable(why)), holds=None, make=[])


def _with(service: LLMService, chosen: Mapping[str, Any]) -> LLMService:
    if not chosen:
        return service
    of_engine = {name: value for name, value in chosen.items() if name != "tensor_parallel_size"}
    engine = service.spec.engine.model_copy(update=of_engine)
    count = chosen.get("tensor_parallel_size", service.spec.accelerator.count)
    accelerator = service.spec.accelerator.model_copy(update={"count": count})
    return replace(service, spec=service.spec.model_copy(update={"engine": engine, "accelerator": accelerator}))


def measured(sized: Sized, tokens: int | None, former: Object) -> Sized:
    """The same with what a pod says that its KV cache holds, or once said."""
    tokens = tokens or former.get("memory", {}).get("measuredKvTokens")
    return sized if tokens is None else replace(sized, memory=(sized.memory or {}) | {"measuredKvTokens": tokens})


def _are_pods_wanted(service: LLMService, replicas: Replicas) -> bool:
    if service.spec.suspend:
        return False
    if service.spec.autoscaling is not None:
        return True
    said = (replicas.wanted, replicas.present, service.spec.replicas)
    return next(count for count in said if count is not None) > 0


async def _planned(cluster: Cluster, subject: Subject, found: FoundModel, former: Mapping[str, Any]) -> Verdict:
    service, template = subject.service, subject.template
    try:
        config = sizing.engine_config(service)
    except ValidationError as error:
        return Verdict(None, sizing.NOT_PLANNED, explain(error))
    if service.spec.accelerator.type == "cpu":
        limit = _limit(pod_template.engine_of(template) or {})
        if limit is None:
            said = "the engine's container has no limit of memory: it may use its node's, which is not known"
            return Verdict(None, sizing.DEVICE_UNKNOWN, said)
        return sizing.on_cpu(found, config, limit)
    said_gpu = sizing.said_gpu(service)
    if said_gpu is not None:
        return sizing.on_gpus(found, config, said_gpu, former)
    nodes = await _nodes(cluster, subject.settings)
    gpus = sizing.gpus_of(nodes, template["spec"], service.spec.accelerator.product)
    return sizing.on_gpus(found, config, gpus, former)


async def _nodes(cluster: Cluster, settings: Settings) -> list[Object]:
    """Those with GPUs. An operator for some namespaces has no right to see any."""
    if settings.namespaces:
        return []
    try:
        return await cluster.nodes(_NODES)
    except Forbidden:
        return []


def _limit(container: Mapping[str, Any]) -> int | None:
    resources = container.get("resources") or {}
    said = (resources.get("limits") or {}).get("memory")
    try:
        return None if said is None else int(amount(str(said)))
    except ValueError:
        return None


def _memory(plan: MemoryPlan | None) -> Object | None:
    if plan is None:
        return None
    return {
        "device": plan.device_memory,
        "budget": plan.budget,
        "weights": plan.weight_bytes,
        "reserves": plan.reserves,
        "kvCache": plan.kv_cache_bytes,
        "kvBytesPerToken": plan.kv_bytes_per_token,
        "kvTokens": plan.num_tokens,
        "maxModelLen": plan.max_model_len,
    }
