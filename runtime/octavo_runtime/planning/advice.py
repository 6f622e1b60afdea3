"""What to set for a model, a GPU and a kind of work, and what to change where the model does not fit. Free of torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.presets import PRESETS
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.gpus import GPUS, Gpu
from octavo_runtime.planning.limits import MIN_TOKENS, DoesNotFit, step_tokens, token_budget
from octavo_runtime.planning.memory import MemoryPlan, plan_memory
from octavo_runtime.planning.reserves import cpu_headroom

Workload = Literal["throughput", "latency"]
WORKLOADS: tuple[Workload, ...] = ("throughput", "latency")

USUAL_LENGTH = 2048
"""Tokens of a request that there should be room for."""

_LARGE_WEIGHTS = 0.6  # share of the memory above which too little is left for the KV cache
_PARALLEL_SIZES = (2, 4, 8, 16)
_MIB, _GIB = 2**20, 2**30
_STEP = 128 * _MIB  # of memory that is advised
_MOST_MEMORY = 2**50


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
    if config.max_model_len is not None and MIN_TOKENS <= plan.room < config.max_model_len:
        found.append(Advice("max_model_len", str(plan.room), "the KV cache holds that many tokens"))
    for changes, why in _changes(config):
        after = plan_memory(spec, config.model_copy(update=changes), gpu.memory)
        if after.problem is None:
            found.append(_changed(changes, why, after))
    if config.kv_cache_memory is None:
        found += _smaller_weights(spec, config, plan, gpu)
    return found + another


def cpu_remedies(spec: ModelSpec, config: EngineConfig, memory: int, packed_bytes: int) -> list[Advice]:
    """The single changes that would each make a configuration fit that does not fit `memory` bytes of a CPU's, with
    room for what a busy server takes. packed_bytes: as in plan_memory."""

    def planned(changes: Mapping[str, Any]) -> MemoryPlan | None:
        return _busy_plan(spec, config.model_copy(update=dict(changes)), memory, packed_bytes)

    found = []
    plan = plan_memory(spec, config, memory, "cpu", packed_bytes)
    asked = config.max_model_len
    if asked is not None and MIN_TOKENS <= plan.room < asked:
        if planned({"max_model_len": plan.room}) is not None:
            found.append(Advice("max_model_len", str(plan.room), "the KV cache holds that many tokens"))
        needed = plan.sequence_bytes(asked, token_budget(config, "cpu"))
        cache = {"kv_cache_memory": f"{-(-needed // _MIB) + 1}Mi"}
        if (after := planned(cache)) is not None:
            found.append(_changed(cache, f"holds a request of {asked:,} tokens", after))
    for changes, why in _changes(config, "cpu"):
        if (after := planned(changes)) is not None:
            found.append(_changed(changes, why, after))
    larger = _larger_memory(spec, config, memory, packed_bytes)
    return found if larger is None else [*found, larger]


def cpu_squeeze(spec: ModelSpec, config: EngineConfig, memory: int, packed_bytes: int) -> Advice | None:
    """How much memory a configuration wants that starts in `memory` bytes of a CPU's, and may be ended there once it is
    busy; None where they are enough. packed_bytes: as in plan_memory."""
    if _busy_plan(spec, config, memory, packed_bytes) is not None:
        return None
    return _larger_memory(spec, config, memory, packed_bytes)


def _busy_plan(spec: ModelSpec, config: EngineConfig, memory: int, packed_bytes: int) -> MemoryPlan | None:
    """What the engine settles on with `memory` bytes of a CPU's; None where what busy processes take has no room
    beside that. The engine sizes its caches without a thought of them."""
    plan = plan_memory(spec, config, memory, "cpu", packed_bytes)
    own = {"kv_cache_memory": str(plan.kv_cache_bytes), "swap_space": str(plan.swap_bytes)}
    settled = config.model_copy(update=own)
    spare = cpu_headroom(spec, config) * config.local_ranks
    if plan.problem or plan_memory(spec, settled, memory - spare, "cpu", packed_bytes).problem:
        return None
    return plan


def _larger_memory(spec: ModelSpec, config: EngineConfig, memory: int, packed_bytes: int) -> Advice | None:
    """The least memory above `memory` bytes of a CPU's that is enough; None where no machine has it."""
    usual = min(spec.max_position, USUAL_LENGTH) if config.kv_cache_memory is None else 0

    def is_enough(size: int) -> bool:
        after = _busy_plan(spec, config, size, packed_bytes)
        return after is not None and after.room >= usual

    enough = _least(is_enough, memory)
    if enough is None:
        return None
    size = f"{enough // _MIB}Mi" if enough % _GIB else f"{enough // _GIB}Gi"
    tokens = f"{plan_memory(spec, config, enough, 'cpu', packed_bytes).num_tokens:,} tokens of KV cache"
    return Advice("memory", size, f"the least that holds a busy server and {tokens}")


def _least(fits: Callable[[int], bool], memory: int) -> int | None:
    """The least size above `memory`, in whole steps, for which `fits` holds; None where no machine's does."""
    low, high = memory // _STEP, 2 * (memory // _STEP + 1)
    while not fits(high * _STEP):
        low, high = high, 2 * high
        if high * _STEP > _MOST_MEMORY:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle * _STEP) else (middle, high)
    return high * _STEP


def fill_open(spec: ModelSpec, config: EngineConfig, gpu: Gpu, most: int) -> dict[str, Any]:
    """The fewest settings, of those that `config` leaves open, that make a model fit a GPU that it does not fit
    otherwise; empty where none do, or none need to. What changes no token comes first: shares of one GPU's memory, then
    several GPUs, of which a machine has `most`; then weights of 8 bits."""
    if not gpu.is_supported or fits_with(spec, config, gpu, {}):
        return {}
    single = [changes for changes, _ in _changes(config) if not changes.keys() & config.model_fields_set]
    together = {name: value for changes in single for name, value in changes.items()}
    is_open = "tensor_parallel_size" not in config.model_fields_set
    several = [{"tensor_parallel_size": cards} for cards in _PARALLEL_SIZES if is_open and cards <= most]
    ways = [*single, together, *several]
    if _can_be_smaller(spec, config):
        ways += [{"quantization": "fp8"} | others for others in ({}, together, *several)]
    return next((changes for changes in ways if fits_with(spec, config, gpu, changes)), {})


def fits_with(spec: ModelSpec, config: EngineConfig, gpu: Gpu, changes: Mapping[str, Any]) -> bool:
    """Whether a model fits a GPU with these settings changed."""
    try:
        return plan_memory(spec, config.model_copy(update=dict(changes)), gpu.memory).problem is None
    except DoesNotFit:
        return False


def _can_be_smaller(spec: ModelSpec, config: EngineConfig) -> bool:
    """Whether the weights may be made 8 bits at load."""
    is_plain = spec.quantization is None and spec.encoder is None
    return is_plain and config.quantization == "auto" and config.dtype != "float32"


def _changed(changes: Mapping[str, Any], why: str, after: MemoryPlan) -> Advice:
    ((setting, value),) = changes.items()
    words = "unset" if value is None else str(value)
    return Advice(setting, words, f"{why}; then {after.num_tokens:,} tokens of KV cache fit")


def _smaller_weights(spec: ModelSpec, config: EngineConfig, plan: MemoryPlan, gpu: Gpu) -> list[Advice]:
    """What makes the weights on one GPU fewer or smaller."""
    found = []
    eight = config.model_copy(update={"quantization": "fp8"})
    can_be_smaller = _can_be_smaller(spec, config)
    if can_be_smaller and (after := plan_memory(spec, eight, gpu.memory)).problem is None:
        why = f"weights shrink from {_gb(plan.weight_bytes)} to {_gb(after.weight_bytes)}"
        found.append(_changed({"quantization": "fp8"}, why, after))
    elif can_be_smaller and _fits(spec, config, plan, gpu, plan.weight_bytes // 4):
        why = f"an AWQ or GPTQ checkpoint: weights shrink from {_gb(plan.weight_bytes)} to about "
        found.append(Advice("model", "in 4 bits", why + _gb(plan.weight_bytes / 4)))
    cards = _parallel_size(spec, config, gpu)
    if cards is not None:
        cache = "all latents" if spec.latent is not None else f"1/{cards} of the KV cache"
        why = f"each GPU holds {_gb(plan.weight_bytes / cards)} of weights and {cache}"
        found.append(Advice("tensor_parallel_size", str(cards), why))
    return found


def recommend(spec: ModelSpec, config: EngineConfig, gpu: Gpu, workload: Workload, length: int) -> list[Advice]:
    """A whole configuration for requests of about `length` tokens. What `config` sets explicitly stays."""
    tuned = tuned_config(config, workload)
    alone = plan = plan_memory(spec, tuned, gpu.memory)
    cards = None if alone.problem is None else _parallel_size(spec, tuned, gpu)
    if cards is not None:
        tuned = tuned.model_copy(update={"tensor_parallel_size": cards})
        plan = plan_memory(spec, tuned, gpu.memory)
    reasons = {name: why for name, (_, why) in PRESETS[workload].settings.items()}
    reasons |= dict.fromkeys(config.model_fields_set, "as set")
    rows = [
        _quantization(spec, plan),
        _tensor_parallel(alone, cards),
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


def _changes(config: EngineConfig, device: str = "cuda") -> list[tuple[dict[str, Any], str]]:
    """One change of a setting each, that gives the KV cache more, and why it does."""
    changes: list[tuple[dict[str, Any], str]] = []
    if config.dtype == "float32":
        changes.append(({"dtype": "bfloat16"}, "halves weights and KV cache"))
    if config.kv_cache_memory is not None:
        changes.append(({"kv_cache_memory": None}, "takes what is left, or on a CPU a share of it"))
    if device == "cpu":
        return changes
    if config.gpu_memory_utilization < 0.95:
        changes.append(({"gpu_memory_utilization": 0.95}, "gives the KV cache more of the GPU"))
    if step_tokens(config, "cuda") > 2048 >= config.max_num_seqs:
        changes.append(({"max_num_batched_tokens": 2048}, "shrinks a step's temporary tensors"))
    return changes


def _fits(spec: ModelSpec, config: EngineConfig, plan: MemoryPlan, gpu: Gpu, weights: int) -> bool:
    """Whether a GPU with `weights` bytes of weights has room for a request."""
    length = config.max_model_len or min(spec.max_position, USUAL_LENGTH)
    needed = weights + plan.sequence_bytes(length, token_budget(config, "cuda")) + plan.reserves
    return needed <= int(gpu.memory * config.gpu_memory_utilization)


def _parallel_size(spec: ModelSpec, config: EngineConfig, gpu: Gpu) -> int | None:
    """The fewest GPUs, more than one, that hold the model together; None where none of the usual numbers does."""
    fitting = (cards for cards in _PARALLEL_SIZES if fits_with(spec, config, gpu, {"tensor_parallel_size": cards}))
    return next(fitting, None)


def _another_gpu(gpu: Gpu) -> Advice:
    return Advice("gpu", gpu.name, f"the smallest one that holds it: {_gb(gpu.memory)}")


def _smallest_gpu(spec: ModelSpec, config: EngineConfig) -> Gpu | None:
    for gpu in sorted(GPUS.values(), key=lambda gpu: gpu.memory):
        if plan_memory(spec, config, gpu.memory).problem is None and gpu.is_supported:
            return gpu
    return None


def _quantization(spec: ModelSpec, plan: MemoryPlan) -> Advice:
    share = plan.weight_bytes / plan.device_memory
    words = f"weights take {share:.0%} of the memory"
    if share <= _LARGE_WEIGHTS:
        return Advice("quantization", "auto", f"{words}, which leaves enough for the KV cache")
    above = f"{words}, above {_LARGE_WEIGHTS:.0%}"
    if spec.quantization is not None:
        return Advice("quantization", "auto", f"{above}; the checkpoint has them in fewer bits already")
    if share / 2 <= _LARGE_WEIGHTS:
        return Advice("quantization", "fp8", f"{above}; this makes it about {share / 2:.0%}")
    return Advice("model", "in 4 bits", f"{above}; an AWQ or GPTQ checkpoint makes it about {share / 4:.0%}")


def _tensor_parallel(alone: MemoryPlan, cards: int | None) -> Advice:
    """alone: of one GPU. cards: the fewest of several that hold the model together."""
    if alone.problem is None:
        return Advice("tensor_parallel_size", "1", f"{_gb(alone.weight_bytes)} of weights fit on one GPU")
    if cards is None:
        numbers = ", ".join(map(str, _PARALLEL_SIZES))
        return Advice("tensor_parallel_size", "none", f"none of {numbers} such GPUs can share it", supported=False)
    each = _gb(alone.weight_bytes / cards)
    why = f"weights and the KV cache of a request do not fit on one GPU; {cards} hold {each} of weights each"
    return Advice("tensor_parallel_size", str(cards), why)


def _max_num_seqs(config: EngineConfig, plan: MemoryPlan, length: int, why: str) -> Advice:
    fit = plan.num_sequences(length)
    if fit < config.max_num_seqs:
        fewest = 1 if config.speculation is None else 2  # guesses take places of sequences
        return Advice("max_num_seqs", str(max(fit, fewest)), f"the KV cache holds {fit} sequences of {length} tokens")
    return Advice("max_num_seqs", str(config.max_num_seqs), f"{why}; {fit} of {length} tokens would fit")


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
