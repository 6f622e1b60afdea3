"""What to set for a model, a GPU and a kind of work, and what to change where the model does not fit. Free of torch."""

from dataclasses import dataclass
from typing import Any, Literal

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.presets import PRESETS
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.gpus import GPUS, Gpu
from octavo_runtime.planning.memory import MIN_TOKENS, MemoryPlan, plan_memory

Workload = Literal["throughput", "latency"]
WORKLOADS: tuple[Workload, ...] = ("throughput", "latency")

_LARGE_WEIGHTS = 0.6  # share of the memory above which too little is left for the KV cache
_PARALLEL_SIZES = (2, 4, 8, 16)


@dataclass(frozen=True)
class Advice:
    """One setting, its value and the reason. supported: False where the engine refuses that value."""

    setting: str
    value: str
    why: str
    supported: bool = True


def remedies(spec: ModelSpec, config: EngineConfig, gpu: Gpu) -> list[Advice]:
    """The single changes that would each make a configuration fit that does not, with the plan's own figures. Nothing
    but another GPU helps where the kernels cannot run."""
    larger = _smallest_gpu(spec, config)
    another = [] if larger is None else [_another_gpu(larger)]
    if not gpu.is_supported:
        return another
    plan = plan_memory(spec, config, gpu.memory)
    found = []
    if config.max_model_len is not None and MIN_TOKENS <= plan.num_tokens < config.max_model_len:
        found.append(Advice("max_model_len", str(plan.num_tokens), "the KV cache holds that many tokens"))
    for changes, why in _changes(config):
        changed = config.model_copy(update=changes)
        after = plan_memory(spec, changed, gpu.memory)
        if after.problem is None:
            (setting,) = changes
            tokens = f"{after.num_tokens:,} tokens of KV cache"
            value = "unset" if changes[setting] is None else str(changes[setting])
            found.append(Advice(setting, value, f"{why}; then {tokens} fit"))
    if config.kv_cache_memory is None:
        found += _smaller_weights(spec, config, plan, gpu)
    return found + another


def _smaller_weights(spec: ModelSpec, config: EngineConfig, plan: MemoryPlan, gpu: Gpu) -> list[Advice]:
    """What makes the weights on one GPU fewer or smaller."""
    found = []
    for name, share in (("int8 or fp8", 2), ("awq or gptq", 4)):
        if _fits(spec, config, plan, gpu, weights=plan.weight_bytes // share, cards=1):
            why = f"weights shrink from {_gb(plan.weight_bytes)} to about {_gb(plan.weight_bytes / share)}"
            found.append(Advice("quantization", name, why, supported=False))
            break
    cards = _parallel_size(spec, config, plan, gpu)
    if cards is not None:
        why = f"each GPU holds {_gb(plan.weight_bytes / cards)} of weights and 1/{cards} of the KV cache"
        found.append(Advice("tensor_parallel_size", str(cards), why, supported=False))
    return found


def recommend(spec: ModelSpec, config: EngineConfig, gpu: Gpu, workload: Workload, length: int) -> list[Advice]:
    """A whole configuration for requests of about `length` tokens. What `config` sets explicitly stays."""
    tuned = tuned_config(config, workload)
    plan = plan_memory(spec, tuned, gpu.memory)
    reasons = {name: why for name, (_, why) in PRESETS[workload].settings.items()}
    reasons |= dict.fromkeys(config.model_fields_set, "as set")
    rows = [
        _quantization(plan),
        _tensor_parallel(spec, tuned, plan, gpu),
        Advice(
            "gpu_memory_utilization",
            str(tuned.gpu_memory_utilization),
            reasons.get("gpu_memory_utilization", "the default: a tenth stays for what is not planned"),
        ),
    ]
    if plan.problem is None:
        why = reasons.get("max_model_len", "what the model and the KV cache allow")
        rows.append(Advice("max_model_len", str(plan.max_model_len), why))
        rows.append(_max_num_seqs(tuned, plan, length, reasons["max_num_seqs"]))
    caching = "prompts that begin alike are computed once; others lose nothing"
    block = "a sequence wastes half a block on average, and shares whole ones"
    return [
        *rows,
        Advice("max_num_batched_tokens", str(tuned.max_num_batched_tokens), reasons["max_num_batched_tokens"]),
        Advice("enable_prefix_caching", "true", caching),
        Advice("block_size", str(tuned.block_size), block),
    ]


def tuned_config(config: EngineConfig, workload: Workload) -> EngineConfig:
    """The workload's preset under what `config` sets explicitly."""
    return EngineConfig.model_validate(
        config.model_dump(include=config.model_fields_set - {"preset"}) | {"preset": workload}
    )


def _changes(config: EngineConfig) -> list[tuple[dict[str, Any], str]]:
    """One change of a setting each, that gives the KV cache more, and why it does."""
    changes: list[tuple[dict[str, Any], str]] = []
    if config.dtype == "float32":
        changes.append(({"dtype": "bfloat16"}, "halves weights and KV cache"))
    if config.kv_cache_memory is not None:
        changes.append(({"kv_cache_memory": None}, "takes all that is left"))
    if config.gpu_memory_utilization < 0.95:
        changes.append(({"gpu_memory_utilization": 0.95}, "gives the KV cache more of the GPU"))
    if (config.max_num_batched_tokens or 8192) > 2048 >= config.max_num_seqs:
        changes.append(({"max_num_batched_tokens": 2048}, "shrinks a step's temporary tensors"))
    return changes


def _fits(spec: ModelSpec, config: EngineConfig, plan: MemoryPlan, gpu: Gpu, *, weights: int, cards: int) -> bool:
    """Whether each of `cards` GPUs, which hold `weights` bytes of weights between them, has room for a request."""
    length = config.max_model_len or min(spec.max_position, 2048)
    reserves = plan.context_bytes + plan.activation_bytes + plan.graph_bytes
    needed = (weights + length * plan.kv_bytes_per_token) / cards + reserves
    return needed <= int(gpu.memory * config.gpu_memory_utilization)


def _parallel_size(spec: ModelSpec, config: EngineConfig, plan: MemoryPlan, gpu: Gpu) -> int | None:
    """The fewest GPUs that hold the model together; None where none of the usual numbers does, or one is enough."""
    for cards in _PARALLEL_SIZES:
        if spec.num_kv_heads % cards == 0 and _fits(spec, config, plan, gpu, weights=plan.weight_bytes, cards=cards):
            return cards
    return None


def _another_gpu(gpu: Gpu) -> Advice:
    return Advice("gpu", gpu.name, f"the smallest one that holds it: {_gb(gpu.memory)}")


def _smallest_gpu(spec: ModelSpec, config: EngineConfig) -> Gpu | None:
    for gpu in sorted(GPUS.values(), key=lambda gpu: gpu.memory):
        if plan_memory(spec, config, gpu.memory).problem is None and gpu.is_supported:
            return gpu
    return None


def _quantization(plan: MemoryPlan) -> Advice:
    share = plan.weight_bytes / plan.device_memory
    words = f"weights take {share:.0%} of the memory"
    if share <= _LARGE_WEIGHTS:
        return Advice("quantization", "none", f"{words}, which leaves enough for the KV cache")
    name, part = ("int8 or fp8", 2) if share / 2 <= _LARGE_WEIGHTS else ("awq or gptq", 4)
    return Advice("quantization", name, f"{words}, above {_LARGE_WEIGHTS:.0%}; this makes it {share / part:.0%}", False)


def _tensor_parallel(spec: ModelSpec, config: EngineConfig, plan: MemoryPlan, gpu: Gpu) -> Advice:
    if plan.problem is None:
        return Advice("tensor_parallel_size", "1", f"{_gb(plan.weight_bytes)} of weights fit on one GPU")
    cards = _parallel_size(spec, config, plan, gpu)
    if cards is None:
        numbers = ", ".join(map(str, _PARALLEL_SIZES))
        return Advice("tensor_parallel_size", "none", f"none of {numbers} such GPUs can share it", supported=False)
    each = _gb(plan.weight_bytes / cards)
    why = f"weights and the KV cache of a request do not fit on one GPU; {cards} hold {each} of weights each"
    return Advice("tensor_parallel_size", str(cards), why, supported=False)


def _max_num_seqs(config: EngineConfig, plan: MemoryPlan, length: int, why: str) -> Advice:
    fit = plan.num_sequences(length)
    if fit < config.max_num_seqs:
        return Advice("max_num_seqs", str(max(fit, 1)), f"the KV cache holds {fit} sequences of {length} tokens")
    return Advice("max_num_seqs", str(config.max_num_seqs), f"{why}; {fit} of {length} tokens would fit")


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
