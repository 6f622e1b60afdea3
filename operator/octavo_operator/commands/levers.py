"""What can be turned in a spec: the engine's settings in effect, and changes that give it more of something. A change
is what to merge into the spec; it is empty where the bound of the field is reached."""

import math
from typing import Any

from octavo_operator.api import LLMService, engine
from octavo_operator.api.quantities import parse_cpu, parse_memory
from octavo_operator.api.spec import CACHE_MARGIN
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.planning.limits import step_tokens

Change = dict[str, Any]

MAX_REPLICAS = 1000
MAX_SEQS = 4096
SHORTEST_STEP = 64  # tokens
HIGHEST_SHARE = 0.95
_DEVICES = {"nvidia": "cuda", "cpu": "cpu"}


def settings(service: LLMService) -> EngineConfig:
    """The engine's settings in effect: the preset's and the defaults filled in."""
    return EngineConfig.model_validate({"model": "builtin://any"} | engine.said(service.spec.engine))


def tokens_a_step(service: LLMService) -> int:
    return step_tokens(settings(service), _DEVICES[service.spec.accelerator.type])


def more_replicas(service: LLMService, wanted: int) -> Change:
    """Half as many pods again, at least one; where the load decides, as their upper bound."""
    autoscaling = service.spec.autoscaling
    now = autoscaling.max_replicas if autoscaling else max(wanted, service.spec.replicas)
    most = min(now + max(1, now // 2), MAX_REPLICAS)
    if most <= now:
        return {}
    return {"autoscaling": {"maxReplicas": most}} if autoscaling else {"replicas": most}


def more_cache(service: LLMService) -> Change:
    """A larger KV cache: on a GPU a larger share of its memory, on a CPU twice as much, with the pod's memory."""
    now = settings(service)
    if service.spec.accelerator.type == "nvidia":
        if now.kv_cache_memory is not None:
            return {"engine": {"kvCacheMemory": _mebibytes(1.5 * parse_memory(_said_cache(service)))}}
        share = min(round(now.gpu_memory_utilization + 0.05, 2), HIGHEST_SHARE)
        return {"engine": {"gpuMemoryUtilization": share}} if share > now.gpu_memory_utilization else {}
    memory = parse_memory(service.spec.resources.memory)
    cache = parse_memory(_said_cache(service)) if service.spec.engine.kv_cache_memory else min(2**30, memory // 4)
    memory = max(memory + cache, 2 * cache + 2 * parse_memory(CACHE_MARGIN))
    return {"engine": {"kvCacheMemory": _mebibytes(2 * cache)}, "resources": {"memory": _mebibytes(memory)}}


def more_memory(service: LLMService) -> Change:
    """Half as much memory of the pod again."""
    return {"resources": {"memory": _mebibytes(1.5 * parse_memory(service.spec.resources.memory))}}


def more_cpu(service: LLMService) -> Change:
    """Twice as many CPUs for each pod."""
    return {"resources": {"cpu": f"{math.ceil(2000 * parse_cpu(service.spec.resources.cpu))}m"}}


def more_sequences(service: LLMService) -> Change:
    """Twice as many sequences in a step, as far as it computes a token of each."""
    said = settings(service)
    now, most = said.max_num_seqs, min(MAX_SEQS, said.max_num_batched_tokens or MAX_SEQS)
    return {"engine": {"maxNumSeqs": min(2 * now, most)}} if now < most else {}


def fewer_sequences(service: LLMService) -> Change:
    """Half as many sequences in a step, of which tokens that are guessed need a second one."""
    said = settings(service)
    now, fewer = said.max_num_seqs, max(said.max_num_seqs // 2, 1 if said.speculation is None else 2)
    return {"engine": {"maxNumSeqs": fewer}} if fewer < now else {}


def shorter_steps(service: LLMService) -> Change:
    """Half as many tokens in a step, so that a long prompt holds up the others for less."""
    now = tokens_a_step(service)
    shorter = max(now // 2, SHORTEST_STEP, settings(service).max_num_seqs)
    return {"engine": {"maxNumBatchedTokens": shorter}} if shorter < now else {}


def less_gpu_memory(service: LLMService) -> Change:
    """A smaller share of the GPU's memory for weights and cache, which leaves more to a step."""
    share = max(round(min(settings(service).gpu_memory_utilization - 0.05, 0.85), 2), 0.05)
    return {"engine": {"gpuMemoryUtilization": share}} if share < settings(service).gpu_memory_utilization else {}


def both(*changes: Change) -> Change:
    """Several changes as one."""
    merged: Change = {}
    for change in changes:
        for key, value in change.items():
            merged[key] = both(merged[key], value) if isinstance(merged.get(key), dict) else value
    return merged


def _said_cache(service: LLMService) -> str:
    return str(service.spec.engine.kv_cache_memory)


def _mebibytes(size: float) -> str:
    whole = math.ceil(size / 2**20)
    return f"{whole // 1024}Gi" if whole % 1024 == 0 else f"{whole}Mi"
