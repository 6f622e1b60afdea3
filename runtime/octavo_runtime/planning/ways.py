"""How few GPUs hold a model, with its weights as they are stored or in fewer bits. Free of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.models.served import as_served
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.advice import USUAL_LENGTH
from octavo_runtime.planning.gpus import Gpu
from octavo_runtime.planning.kv_cache import kv_element_size
from octavo_runtime.planning.limits import DoesNotFit
from octavo_runtime.planning.memory import MemoryPlan, plan_memory
from octavo_runtime.planning.roofline import decode_cost
from octavo_runtime.quantization.scheme import Scheme

MESHES = (*((shards, 1) for shards in (1, 2, 4, 8)), *((8, stages) for stages in (2, 4, 8)))
"""Shards of each layer and stages of layers, the fewest devices first: a layer is shared within a machine, which has 8
GPUs at most, and stages are machines, since they tell each other least."""

FOUR_BITS = "4 bits"
"""Weights of another checkpoint: no setting makes them."""

_SCHEME = Scheme("awq", 4, group=(1, 128), has_zeros=True)
_CONTEXT = 1024  # tokens of the request that is timed


@dataclass(frozen=True)
class Way:
    """The fewest GPUs that hold a model in one form, and a request of a usual length. weights: the form's name.
    settings: those of the engine that ask for it. plan: of the GPU with the least room. seconds: from token to token of
    one request, at best; None where the GPU's speed is not known."""

    weights: str
    settings: Mapping[str, Any]
    devices: int
    plan: MemoryPlan
    seconds: float | None


def ways(spec: ModelSpec, config: EngineConfig, gpu: Gpu) -> tuple[Way, ...]:
    """One for each form that some number of GPUs holds, as it is stored first; none where the configuration says what
    it wants already, or where nothing is generated."""
    said = config.model_fields_set & {"tensor_parallel_size", "pipeline_parallel_size", "quantization"}
    if said or spec.encoder is not None or not gpu.is_supported or config.kv_cache_memory is not None:
        return ()
    forms: list[tuple[str, ModelSpec, dict[str, Any]]] = [("as stored", spec, {})]
    is_packed = spec.quantization is not None or (spec.experts is not None and spec.experts.is_packed)
    if not is_packed and config.dtype != "float32":
        forms += [("FP8", spec, {"quantization": "fp8"}), (FOUR_BITS, replace(spec, quantization=_SCHEME), {})]
    found = (_fewest(name, form, config, gpu, settings) for name, form, settings in forms)
    return tuple(way for way in found if way is not None)


def cheapest(found: Sequence[Way]) -> tuple[Way, str]:
    """The way with the fewest GPUs, of equal ones that whose answers differ least; and why it is that."""
    first, best = found[0], min(found, key=lambda way: way.devices)
    if best is not first:
        return best, f"in the place of {first.devices}"
    return best, "no form in fewer bits needs fewer" if len(found) > 1 else "the only form that fits"


def _fewest(name: str, spec: ModelSpec, config: EngineConfig, gpu: Gpu, settings: Mapping[str, Any]) -> Way | None:
    for shards, stages in MESHES:
        changes = {"tensor_parallel_size": shards, "pipeline_parallel_size": stages}
        needed = {setting: number for setting, number in changes.items() if number > 1}
        shared = config.model_copy(update={**settings, **needed})
        try:
            plan = plan_memory(spec, shared, gpu.memory)
        except DoesNotFit:
            continue  # it cannot be cut so
        if plan.problem is None and plan.room >= min(spec.max_position, USUAL_LENGTH):
            return Way(name, {**settings, **needed}, shards * stages, plan, _seconds(spec, shared, gpu, shards))
    return None


def _seconds(spec: ModelSpec, config: EngineConfig, gpu: Gpu, shards: int) -> float | None:
    if gpu.bandwidth is None or gpu.half_flops is None or config.dtype == "float32":
        return None
    return decode_cost(as_served(spec, config), gpu, 1, _CONTEXT, kv_element_size(config)).seconds / shards
