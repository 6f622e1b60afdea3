"""Does it answer fast, and are the engine's settings those of the load?"""

from octavo_operator.commands import levers
from octavo_operator.commands.checklist.outcome import (
    Check,
    Outcome,
    failed,
    no_answer,
    not_parsed,
    passed,
    unknown,
    warned,
)
from octavo_operator.commands.evidence import NO_METRICS, Evidence, gpus
from octavo_operator.commands.load import Load, duration
from octavo_operator.commands.rules.latency import FULL, SLOW_FIRST_TOKEN, has_few_sequences
from octavo_operator.commands.trial import GENERATE, READING, STREAM, Trial

_USUAL_SHARE = (0.85, 0.95)  # of a GPU's memory
_USUAL_BLOCK = (8, 32)
_ROOM = 0.8  # of the KV cache in use leaves room for a burst


def _speed(_evidence: Evidence, _load: Load | None, trial: Trial) -> Outcome:
    if trial.task != GENERATE:
        return _reading_speed(trial)
    speed = trial.speed()
    if speed is None:
        return no_answer(trial, STREAM)
    told = f"first token after {duration(speed[0])}, then {speed[1]:.1f} tokens/s, asked through the API server"
    if speed[0] > SLOW_FIRST_TOKEN:
        return warned(told, "`octavo why` says what holds requests up")
    return passed(told)


def _reading_speed(trial: Trial) -> Outcome:
    reply = trial.replies.get(READING)
    if reply is None or reply.status != 200:
        return no_answer(trial, READING)
    told = f"a short text is read in {duration(reply.seconds)}, asked through the API server"
    return (
        warned(told, "`octavo why` says what holds requests up") if reply.seconds > SLOW_FIRST_TOKEN else passed(told)
    )


def _memory_share(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    service = evidence.service
    if service is None:
        return not_parsed(evidence)
    if not evidence.on_gpu:
        return passed(f"runs on the CPU; resources.memory {service.spec.resources.memory}")
    low, high = _USUAL_SHARE
    now = levers.settings(service)
    if now.kv_cache_memory is not None:
        return passed(f"engine.kvCacheMemory {service.spec.engine.kv_cache_memory}")
    told = f"gpuMemoryUtilization {now.gpu_memory_utilization}"
    if low <= now.gpu_memory_utilization <= high:
        return passed(told)
    return warned(told, f"usual is {low} to {high}: less wastes KV cache, more leaves a step no room")


def _sequences(evidence: Evidence, load: Load | None, _trial: Trial) -> Outcome:
    if evidence.service is None:
        return not_parsed(evidence)
    if load is None:
        return unmeasured(evidence)
    most = levers.settings(evidence.service).max_num_seqs
    told = f"{load.running} requests run and {load.waiting} wait on {load.pods} pods, maxNumSeqs {most}"
    if has_few_sequences(evidence, load):
        return warned(told, f"spec.engine.maxNumSeqs: {min(2 * most, levers.MAX_SEQS)}")
    if load.waiting:
        return warned(told, "more replicas; `octavo why` says more")
    return passed(told)


def unmeasured(evidence: Evidence) -> Outcome:
    """Of what the metrics tell, where there are none."""
    if NO_METRICS in evidence.unread:
        return unknown(evidence.unread[NO_METRICS])
    return failed("no pod runs that could tell its metrics", "`octavo why` says why")


def _headroom(evidence: Evidence, load: Load | None, _trial: Trial) -> Outcome:
    if load is None:
        return unmeasured(evidence)
    told = f"KV cache {load.kv_usage:.0%} full at {load.running} running requests, room for {load.kv_tokens:,} tokens"
    fix = "a larger KV cache (a quantized model leaves more of it), or more replicas"
    if load.kv_usage >= FULL:
        return failed(told, fix)
    return warned(told, fix) if load.kv_usage >= _ROOM else passed(told)


def _length(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if evidence.service is None:
        return not_parsed(evidence)
    bound = evidence.service.spec.engine.max_model_len
    if bound is None:
        return passed("engine.maxModelLen is not set: the model's own limit, or the KV cache's where that is less")
    return passed(f"engine.maxModelLen {bound}")


def _devices(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if not evidence.on_gpu:
        return passed("runs on the CPU")
    count = {gpus(pod) for pod in evidence.pods}
    wanted = evidence.body["spec"]["accelerator"].get("count", 1)
    if count <= {wanted}:
        return passed(f"{wanted} GPU for each of {len(evidence.pods)} pods, as the engine uses it")
    return warned(f"pods ask for {sorted(count)} GPUs, the engine uses {wanted}", "take the rest out of podTemplate")


def _block_size(evidence: Evidence, _load: Load | None, _trial: Trial) -> Outcome:
    if evidence.service is None:
        return not_parsed(evidence)
    size = levers.settings(evidence.service).block_size
    low, high = _USUAL_BLOCK
    if low <= size <= high:
        return passed(f"engine.blockSize {size}")
    return warned(f"engine.blockSize {size}", f"{low} to {high} wastes fewer slots, and finds more prefixes")


ITEMS: dict[str, Check] = {
    "speed": _speed,
    "memory share": _memory_share,
    "sequences": _sequences,
    "KV headroom": _headroom,
    "length bound": _length,
    "devices": _devices,
    "block size": _block_size,
}
