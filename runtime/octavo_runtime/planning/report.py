"""`octavo plan`: whether a model fits a device, how many sequences with it, what to set, and what it costs."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.flags import engine_flags
from octavo_runtime.models.served import as_served
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.advice import WORKLOADS, Advice, Workload, cpu_remedies, recommend, remedies, tuned_config
from octavo_runtime.planning.description import FoundModel
from octavo_runtime.planning.gpus import Gpu, find_gpu, too_old
from octavo_runtime.planning.known_models import find_model, serving_name
from octavo_runtime.planning.kv_cache import kv_element_size
from octavo_runtime.planning.memory import MemoryPlan, plan_memory
from octavo_runtime.planning.roofline import Cost, decode_cost, prefill_cost
from octavo_runtime.planning.ways import Way, ways

DOES_NOT_FIT = 1

_LENGTHS = (1024, 4096, 16_384, 65_536)
_BATCHES = (1, 8, 32, 128, 256)


@dataclass(frozen=True)
class Capacity:
    """How many sequences of `length` tokens the KV cache holds, with and without the reserves taken off."""

    length: int
    sequences: int
    before_reserves: int


@dataclass(frozen=True)
class Report:
    """All that `octavo plan` says. `command`: what to run for the recommendation; None without one."""

    model: str
    gpu: Gpu
    config: EngineConfig
    memory: MemoryPlan
    capacities: tuple[Capacity, ...]
    remedies: tuple[Advice, ...]
    ways: tuple[Way, ...]
    workload: Workload | None
    recommendation: tuple[Advice, ...]
    command: str | None
    prefill_costs: tuple[Cost, ...]
    decode_costs: tuple[Cost, ...]


def run(
    config: EngineConfig, *, gpu: str, gpu_memory: str, lengths: str, workload: str, costs: bool, as_json: bool
) -> int:
    """Prints the report; 0 where the model fits and 1 where it does not. ValueError for what cannot be planned, such as
    a model that cannot be served, in one line."""
    report = make_report(config, gpu=gpu, gpu_memory=gpu_memory, lengths=lengths, workload=workload, costs=costs)
    if as_json:
        print(json.dumps(as_data(report), indent=2))
    else:
        from octavo_runtime.planning.tables import print_report

        print_report(report)
    return 0 if report.memory.problem is None else DOES_NOT_FIT


def make_report(config: EngineConfig, *, gpu: str, gpu_memory: str, lengths: str, workload: str, costs: bool) -> Report:
    """The report; lengths such as "1024,4096", or "" for usual ones."""
    device = "cpu" if config.device == "cpu" else "cuda"
    chosen = _workload(workload, device)
    card = find_gpu(gpu, gpu_memory)
    found = find_model(config.model)
    spec = found.spec
    plan = plan_memory(spec, config, card.memory, device, found.packed_bytes)
    if device == "cuda" and not card.is_supported:
        plan = replace(plan, problem=too_old(card), max_model_len=0)
    asked = _lengths(lengths, config.max_model_len or spec.max_position)
    if spec.encoder is not None and (chosen or costs):
        raise ValueError(
            f"{'workload' if chosen else 'costs'}: is known for models that generate text, not for encoders"
        )
    holding = asked if spec.encoder is None else []  # an encoder holds nothing
    capacities = tuple(
        Capacity(length, plan.num_sequences(length), plan.num_sequences_before_reserves(length)) for length in holding
    )
    recommended = chosen if card.is_supported else None
    rows = tuple(recommend(spec, config, card, recommended, asked[0])) if recommended else ()
    return Report(
        model=config.model,
        gpu=card,
        config=config,
        memory=plan,
        capacities=capacities,
        remedies=tuple(_remedies(found, config, card, device)) if plan.problem else (),
        ways=ways(spec, config, card) if device == "cuda" else (),
        workload=chosen,
        recommendation=rows,
        command=_command(spec, config, card, recommended, rows) if recommended else None,
        prefill_costs=_prefill_costs(spec, config, card, asked) if costs else (),
        decode_costs=_decode_costs(spec, config, card, plan, asked) if costs else (),
    )


def _remedies(found: FoundModel, config: EngineConfig, card: Gpu, device: str) -> list[Advice]:
    if device == "cpu":
        return cpu_remedies(found.spec, config, card.memory, found.packed_bytes)
    return remedies(found.spec, config, card)


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data, in bytes, tokens and seconds."""
    plan = report.memory
    return {
        "model": report.model,
        "gpu": asdict(report.gpu),
        "fits": plan.problem is None,
        "memory": asdict(plan) | {"num_tokens": plan.num_tokens},
        "capacities": [asdict(capacity) for capacity in report.capacities],
        "remedies": [asdict(advice) for advice in report.remedies],
        "ways": [_way(way) for way in report.ways],
        "workload": report.workload,
        "recommendation": [asdict(advice) for advice in report.recommendation],
        "command": report.command,
        "costs": {"prefill": [_cost(cost) for cost in report.prefill_costs]}
        | {"decode": [_cost(cost) for cost in report.decode_costs]},
    }


def _way(way: Way) -> dict[str, Any]:
    return {
        "weights": way.weights,
        "settings": dict(way.settings),
        "gpus": way.devices,
        "weight_bytes": way.plan.weight_bytes,
        "num_tokens": way.plan.num_tokens,
        "seconds": way.seconds,
    }


def _cost(cost: Cost) -> dict[str, Any]:
    return asdict(cost) | {"bound": cost.bound, "tokens_per_second": cost.tokens_per_second}


def _workload(name: str, device: str) -> Workload | None:
    if not name:
        return None
    for workload in WORKLOADS:
        if workload == name:
            if device == "cpu":
                raise ValueError("workload: is recommended for a GPU only, got device cpu")
            return workload
    raise ValueError(f"workload: must be one of {', '.join(get_args(Workload))}, got {name!r}")


def _lengths(text: str, longest: int) -> list[int]:
    if not text:
        return [length for length in _LENGTHS if length <= longest] or [longest]
    words = text.split(",")
    for word in words:
        if not (word.strip().isascii() and word.strip().isdecimal() and 1 <= int(word) <= longest):
            raise ValueError(f"lengths: must be numbers from 1 to {longest}, such as 1024,4096, got {word.strip()!r}")
    return [int(word) for word in words]


def _prefill_costs(spec: ModelSpec, config: EngineConfig, gpu: Gpu, lengths: Sequence[int]) -> tuple[Cost, ...]:
    served = as_served(spec, config)
    return tuple(prefill_cost(served, gpu, length, kv_element_size(config)) for length in lengths)


def _decode_costs(
    spec: ModelSpec, config: EngineConfig, gpu: Gpu, plan: MemoryPlan, lengths: Sequence[int]
) -> tuple[Cost, ...]:
    """Only those batches that the KV cache holds."""
    if config.dtype == "float32":
        raise ValueError("costs: are known for types of 16 bits, got dtype float32")
    served = as_served(spec, config)
    return tuple(
        decode_cost(served, gpu, batch, length, kv_element_size(config))
        for length in lengths
        for batch in _BATCHES
        if batch <= plan.num_sequences(length)
    )


def _command(spec: ModelSpec, config: EngineConfig, gpu: Gpu, workload: Workload, rows: Sequence[Advice]) -> str | None:
    """`octavo serve ...` for a recommendation; None where the engine refuses a part that it needs to fit."""
    tuned = tuned_config(config, workload)
    settings = config.model_dump(include=config.model_fields_set - {"model", "preset"})
    said = {row.setting: row.value for row in rows if row.supported}
    for name in ("tensor_parallel_size", "max_num_seqs"):
        if name in said and said[name] != str(getattr(tuned, name)):
            settings[name] = int(said[name])
    if said.get("quantization", "auto") != "auto":
        settings["quantization"] = said["quantization"]
    if plan_memory(spec, tuned.model_copy(update=settings), gpu.memory).problem is not None:
        return None
    return shlex.join(
        ["octavo", "serve", serving_name(config.model), *engine_flags({"preset": tuned.preset} | settings)]
    )
