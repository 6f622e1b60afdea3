"""Whether a model fits what its pods will run on, by the engine's own arithmetic: pure, from what is known of the model
and of the devices to a verdict in words and numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic.alias_generators import to_camel

from octavo_operator.api import LLMService, engine
from octavo_operator.api.accelerator import GPU, MOST_DEVICES
from octavo_operator.api.label_selector import carries, holds
from octavo_operator.api.placement import may_stand
from octavo_operator.api.quantities import parse_memory
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.units import gigabytes
from octavo_runtime.planning.advice import Advice, cpu_remedies, cpu_squeeze, fill_open, fits_with, remedies
from octavo_runtime.planning.description import FoundModel
from octavo_runtime.planning.gpus import Gpu, gpu_of_product, too_old
from octavo_runtime.planning.limits import DoesNotFit
from octavo_runtime.planning.memory import MemoryPlan, plan_memory

FITS = "Fits"
FITS_SOME = "FitsSomeGpus"
DOES_NOT_FIT = "DoesNotFit"
UNSUPPORTED = "UnsupportedModel"
DEVICE_UNKNOWN = "DeviceUnknown"
READING_MODEL = "ReadingModel"
MODEL_UNREADABLE = "ModelUnreadable"
NO_POD_WANTED = "NoPodWanted"
NOT_PLANNED = "NotPlanned"

# Labels of nodes, by NVIDIA's GPU feature discovery. Memory is in MiB.
GPU_MEMORY = "nvidia.com/gpu.memory"
GPU_PRODUCT = "nvidia.com/gpu.product"
_CAPABILITY = ("nvidia.com/gpu.compute.major", "nvidia.com/gpu.compute.minor")
_MIB = 2**20


@dataclass(frozen=True)
class Verdict:
    """Whether it fits, None where that is not known; why, in one word and in words. `chosen`: settings of the engine
    that the spec leaves open and that must be set for it to fit. `advised`: the memory for its container, where it may
    run out of what it has."""

    fits: bool | None
    reason: str
    message: str
    plan: MemoryPlan | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    advised: str | None = None


def engine_config(service: LLMService) -> EngineConfig:
    """The configuration that the engine will have. ValueError where it would refuse it."""
    said = engine.said(service.spec.engine)
    accelerator = service.spec.accelerator
    if accelerator.count is not None or accelerator.nodes > 1:
        said["tensorParallelSize"] = service.spec.tensor_parallel_size
    if accelerator.nodes > 1:
        said["nnodes"] = accelerator.nodes
    return EngineConfig.model_validate(said | {"model": service.spec.model.uri})


def on_cpu(found: FoundModel, config: EngineConfig, memory: int) -> Verdict:
    """`memory`: bytes that the container may use."""
    try:
        plan = plan_memory(found.spec, config, memory, "cpu", found.packed_bytes)
    except DoesNotFit as error:
        return Verdict(False, DOES_NOT_FIT, _in_spec(str(error)))
    if plan.problem is None:
        said = _room(plan, f"the memory of {gigabytes(memory)}")
        squeezed = cpu_squeeze(found.spec, config, memory, found.packed_bytes)
        if squeezed is None:
            return Verdict(True, FITS, said, plan)
        tight = f"it may run out of memory there, at its start or once it is busy: {_way(squeezed)}"
        return Verdict(True, FITS, f"{said}; {tight}", plan, advised=squeezed.value)
    ways = cpu_remedies(found.spec, config, memory, found.packed_bytes)
    return Verdict(False, DOES_NOT_FIT, f"{_in_spec(plan.problem)}; {_ways(ways)}", plan)


def on_gpus(found: FoundModel, config: EngineConfig, gpus: Mapping[Gpu, int], former: Mapping[str, Any]) -> Verdict:
    """It fits where it fits one of the kinds of GPU that a pod may be given.

    Args:
        gpus: the kinds, each with the most of it that a node has.
        former: what was chosen for this spec before; it stays while it will do, since a change ends pods that run.
    """
    if not gpus:
        said = f"no node that its pods may be placed on has a label {GPU_MEMORY} or {GPU_PRODUCT}"
        return Verdict(None, DEVICE_UNKNOWN, f"the memory of a GPU is not known: {said}; set spec.accelerator.memory")
    by_size = sorted(gpus, key=lambda gpu: gpu.memory)
    try:
        chosen = _chosen(found, config, {gpu: gpus[gpu] for gpu in reversed(by_size)}, former)
        settled = config.model_copy(update=dict(chosen))
        plans = [(gpu, plan_memory(found.spec, settled, gpu.memory)) for gpu in by_size]
    except DoesNotFit as error:
        return Verdict(False, DOES_NOT_FIT, _in_spec(str(error)))
    good = [(gpu, plan) for gpu, plan in plans if _runs_on(gpu, gpus[gpu], chosen) and plan.problem is None]
    if not good:
        gpu, plan = plans[-1]
        problem = plan.problem if gpu.is_supported else too_old(gpu)
        ways = _ways(remedies(found.spec, config, gpu))
        return Verdict(False, DOES_NOT_FIT, f"{_named(gpu)}: {_in_spec(str(problem), on_gpu=True)}; {ways}", plan)
    gpu, plan = good[0]
    message = _room(plan, _named(gpu))
    if chosen:
        settings = ", ".join(f"{_field(name)} {value}" for name, value in chosen.items())
        message += f"; with {settings}, set since the spec leaves it open and the model would not fit otherwise"
    others = [_named(other) for other, _ in plans if other not in [gpu for gpu, _ in good]]
    if not others:
        return Verdict(True, FITS, message, plan, chosen)
    message += f"; not on {', '.join(others)}, where its pods may be placed too: set spec.accelerator.product"
    return Verdict(True, FITS_SOME, message, plan, chosen)


def _chosen(
    found: FoundModel, config: EngineConfig, gpus: Mapping[Gpu, int], former: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What must be set for the model to fit one of these, the largest first."""
    if former and any(_holds(found, config, gpu, most, former) for gpu, most in gpus.items()):
        return former
    if any(_holds(found, config, gpu, most, {}) for gpu, most in gpus.items()):
        return {}
    if found.packed_bytes or config.model.endswith(".gguf"):
        config = config.model_copy(update={"quantization": "none"})  # a GGUF file is served as it is
    ways = (fill_open(found.spec, config, gpu, most) for gpu, most in gpus.items())
    return next((chosen for chosen in ways if chosen), {})


def _holds(found: FoundModel, config: EngineConfig, gpu: Gpu, most: int, chosen: Mapping[str, Any]) -> bool:
    """Whether a node with `most` such GPUs holds it with these settings."""
    return _runs_on(gpu, most, chosen) and fits_with(found.spec, config, gpu, chosen)


def _runs_on(gpu: Gpu, most: int, chosen: Mapping[str, Any]) -> bool:
    """Whether the kernels do, and a node with `most` such GPUs has as many as were chosen."""
    return gpu.is_supported and chosen.get("tensor_parallel_size", 0) <= most


def of_devices(verdict: Verdict, nodes: int, stages: int) -> Verdict:
    """The same, in words for a replica of so many pods, whose devices are all of theirs, and so many stages, each of
    which has its part of them."""
    said = verdict.message
    if nodes > 1:
        said = said.replace("spec.accelerator.count", "spec.accelerator.nodes times count")
    if stages > 1:
        shared = " divided by spec.engine.pipelineParallelSize"
        said = re.sub(r"(spec\.accelerator\.(?:nodes times )?count)(?=: must divide)", rf"\1{shared}", said)
    return replace(verdict, message=said)


def said_gpu(service: LLMService) -> Mapping[Gpu, int] | None:
    """The GPU that spec.accelerator tells the memory of, as in `on_gpus`; None where the nodes must say it."""
    accelerator = service.spec.accelerator
    if accelerator.memory is None:
        return None
    size, named = parse_memory(accelerator.memory), gpu_of_product(accelerator.product or "")
    name = accelerator.product or f"GPU of {accelerator.memory}"
    return {Gpu(name, size, None, None, named.capability if named else None): MOST_DEVICES}


def gpus_of(nodes: Iterable[Mapping[str, Any]], pod: Mapping[str, Any], product: str | None) -> dict[Gpu, int]:
    """The kinds of GPUs of the nodes that a pod of this spec may be placed on, by their labels and taints, each with
    the most that one of them has; of `product`, where no node has it yet, what is known of it."""
    found: dict[Gpu, int] = {}
    for node in nodes:
        gpu = _of_labels(node["metadata"].get("labels", {})) if _may_go(pod, node) else None
        if gpu is not None:
            found[gpu] = max(found.get(gpu, 0), _number(node))
    if not found and product is not None and (gpu := gpu_of_product(product)) is not None:
        return {gpu: MOST_DEVICES}  # what a node that may come has is not known
    return found


def _number(node: Mapping[str, Any]) -> int:
    said = str(((node.get("status") or {}).get("allocatable") or {}).get(GPU, 0))
    return int(said) if said.isdecimal() else 0


def _of_labels(labels: Mapping[str, str]) -> Gpu | None:
    product = labels.get(GPU_PRODUCT, "")
    known = gpu_of_product(product)
    said = labels.get(GPU_MEMORY, "")
    memory = int(said) * _MIB if said.isdecimal() else 0
    if not memory and known is None:
        return None
    numbers = [labels.get(name, "") for name in _CAPABILITY]
    capability = known.capability if known else None
    if all(number.isdecimal() for number in numbers):
        capability = int(numbers[0]), int(numbers[1])
    name = product or f"GPU of {memory // _MIB}Mi"
    return Gpu(name, memory or (known.memory if known else 0), None, None, capability)


def _may_go(pod: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether nodeSelector, required affinity and tolerations let a pod go to a node."""
    labels, taints = node["metadata"].get("labels", {}), (node.get("spec") or {}).get("taints") or []
    if not carries(pod.get("nodeSelector") or {}, labels) or not may_stand(taints, pod.get("tolerations") or []):
        return False
    affinity = ((pod.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = affinity.get("nodeSelectorTerms") or []
    return not terms or any(all(holds(each, labels) for each in term.get("matchExpressions") or []) for term in terms)


def _room(plan: MemoryPlan, of: str) -> str:
    taken = f"{gigabytes(plan.weight_bytes)} of weights and {gigabytes(plan.reserves)} of reserves"
    if not plan.kv_bytes_per_token:
        return f"of {of}, {taken} are all that an encoder needs; texts of up to {plan.max_model_len:,} tokens"
    cache = f"a KV cache of {gigabytes(plan.kv_cache_bytes)} for {plan.num_tokens:,} tokens"
    return f"of {of}, {taken} leave {cache}; requests of up to {plan.max_model_len:,} tokens"


def _ways(advice: Sequence[Advice]) -> str:
    ways = [_way(each) for each in advice if each.supported]
    return f"what would do: {', or '.join(ways)}" if ways else "no single setting makes it fit"


def _way(advice: Advice) -> str:
    if advice.setting == "gpu":
        return f"a GPU such as {advice.value} ({advice.why})"
    name = "spec.resources.memory" if advice.setting == "memory" else _field(advice.setting)
    done = f"no {name}" if advice.value == "unset" else f"{name} {advice.value}"
    return f"{done} ({advice.why})"


def _in_spec(words: str, *, on_gpu: bool = False) -> str:
    """The engine's words, with its settings by their names in an LLMService."""
    if words.startswith("memory: ") and not on_gpu:
        words = f"spec.resources.{words}"
    return re.sub(
        r"\b[a-z]+(_[a-z]+)+\b|^[a-z]+(?=: )",
        lambda match: _field(match[0]) if match[0] in EngineConfig.model_fields else match[0],
        words,
    )


def _field(setting: str) -> str:
    """A setting of the engine by its name in an LLMService."""
    others = {"tensor_parallel_size": "spec.accelerator.count", "model": "spec.model.uri"}
    return others.get(setting, f"spec.engine.{to_camel(setting)}")


def _named(gpu: Gpu) -> str:
    return f"{gpu.name} ({gigabytes(gpu.memory)})"
