"""Latency: requests wait, or are computed more slowly than they could be."""

import math
from collections.abc import Iterator

from octavo_operator.commands import levers
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.load import Load, duration
from octavo_runtime.top.figures import Latency

LONG_QUEUE = 1.0  # seconds that 99 of 100 requests wait at most in a service that keeps up
FULL = 0.95  # of the KV cache
SLOW_FIRST_TOKEN = 5.0  # seconds; the source's P99 of trouble
SLOW_TOKEN = 0.2  # seconds between two tokens: slower than people read
STRAGGLER = 10.0  # times what half of the answers take
SECTION = "latency"


def queue_grows(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """More comes than the pods answer. Where only maxNumSeqs holds requests back, see few_sequences."""
    service = evidence.service
    if load is None or service is None or not load.waiting or has_few_sequences(evidence, load):
        return
    if not is_queue(load):
        return
    told = [f"{load.waiting} requests wait ({load.waiting_before} {load.seconds:.0f} s before), {load.running} run"]
    told += [f"99 of 100 waited {duration(load.queue.p99)} at most"] if load.queue.p99 is not None else []
    told.append(f"KV cache {load.kv_usage:.0%} full, {load.pods} pods answer")
    told += [f"GPUs {load.gpu:.0%} at work"] if load.gpu is not None else []
    advice, change = "more replicas share the load", levers.more_replicas(service, evidence.wanted)
    if service.spec.autoscaling is None:
        advice += "; or let the load decide: autoscaling.targets.queueDepth"
    elif (autoscaler := evidence.owned.get("HorizontalPodAutoscaler")) is not None:
        most, now = autoscaler["spec"]["maxReplicas"], autoscaler.get("status", {}).get("currentReplicas", 0)
        told.append(f"the autoscaler has {now} pods, and may have {most}")
        if now < most:
            advice, change = "the autoscaler may still add pods; autoscaling.targets say when it does", {}
    yield Finding(
        "QueueGrows",
        "critical",
        f"{load.waiting} requests wait for a place in the engine",
        told,
        advice,
        change,
        SECTION,
    )


def is_queue(load: Load) -> bool:
    """Whether requests wait that do not just pass: at both looks and no fewer at the second, or for long."""
    return load.waiting >= load.waiting_before > 0 or (load.waiting > 0 and (load.queue.p99 or 0.0) >= LONG_QUEUE)


def has_few_sequences(evidence: Evidence, load: Load) -> bool:
    """Whether requests wait for maxNumSeqs alone: as many run as may, and less than half of the KV cache is held."""
    if evidence.service is None or not load.waiting:
        return False
    most = levers.settings(evidence.service).max_num_seqs * load.pods
    return load.running >= most and load.kv_usage < 0.5


def preemptions(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """Running requests give up their KV blocks, and are computed again or swapped."""
    if load is None or evidence.service is None or load.preemptions <= 0:
        return
    service = evidence.service
    yield Finding(
        "Preemptions",
        "warning",
        "running requests give up their KV cache to others and start over",
        [
            f"{load.preemptions:.2f} preemptions a second",
            f"KV cache {load.kv_usage:.0%} full, {load.running} run, {load.swapped} swapped out",
            f"maxNumSeqs {levers.settings(service).max_num_seqs}, room for {load.kv_tokens:,} tokens",
        ],
        "a larger KV cache, fewer sequences at once (engine.maxNumSeqs), or more replicas",
        levers.more_cache(service) or levers.fewer_sequences(service),
        SECTION,
    )


def cache_full(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """No preemption yet, but the next long answer will bring one."""
    if load is None or evidence.service is None or load.kv_usage < FULL or load.preemptions > 0:
        return
    yield Finding(
        "KvCacheFull",
        "warning",
        f"the KV cache is {load.kv_usage:.0%} full",
        [f"room for {load.kv_tokens:,} tokens, {load.running} requests run, {load.waiting} wait"],
        "a larger KV cache, a bound on the length of requests (engine.maxModelLen), or more replicas",
        levers.more_cache(evidence.service),
        SECTION,
    )


def slow_first_token(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """Prompts take long to read, though hardly anybody queues."""
    if load is None or evidence.service is None or (load.first_token.p99 or 0.0) < SLOW_FIRST_TOKEN:
        return
    if (load.queue.p99 or 0.0) >= LONG_QUEUE:
        return
    service = evidence.service
    budget = levers.tokens_a_step(service)
    change: levers.Change = (
        {} if service.spec.engine.enable_prefix_caching else {"engine": {"enablePrefixCaching": True}}
    )
    long = load.prompt_length.p99 is not None and load.prompt_length.p99 > budget
    if long and not change:
        change = {"engine": {"maxNumBatchedTokens": min(2 * budget, 1_048_576)}}
    yield Finding(
        "SlowFirstToken",
        "warning",
        f"99 of 100 requests wait up to {duration(load.first_token.p99)} for their first token",
        [
            f"of that in the queue {duration(load.queue.p99)}",
            f"prompts: {_length(load.prompt_length)}; {load.prompt_tokens:.0f} tokens a second are read",
            f"prefix cache finds {_percent(load.hit_rate_ever)} of prompt tokens; maxNumBatchedTokens {budget}",
        ],
        "prompts that begin alike share what is computed; long ones read faster in larger chunks; else a faster device",
        change,
        SECTION,
    )


def steps_held_up(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """Tokens come unevenly: chunks of long prompts share their steps."""
    if load is None or evidence.service is None or (load.between_tokens.p99 or 0.0) < SLOW_TOKEN:
        return
    if load.between_tokens.p50 is None or (load.between_tokens.p99 or 0.0) < 4 * load.between_tokens.p50:
        return
    yield Finding(
        "StepsHeldUp",
        "warning",
        f"tokens come up to {duration(load.between_tokens.p99)} apart, mostly {duration(load.between_tokens.p50)}",
        [
            f"{load.prompt_tokens:.0f} prompt tokens a second are computed beside the answers",
            f"prompts: {_length(load.prompt_length)}; maxNumBatchedTokens {levers.tokens_a_step(evidence.service)}",
        ],
        "smaller chunks of prompts make steps shorter, and the first token of long prompts later",
        levers.shorter_steps(evidence.service),
        SECTION,
    )


def stragglers(_evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """A few answers take many times as long as the others."""
    if load is None or load.whole_answer.p50 is None or load.whole_answer.p99 is None:
        return
    slow, usual = load.whole_answer.p99, load.whole_answer.p50
    if (
        slow < SLOW_FIRST_TOKEN
        or math.isinf(usual)
        or slow < STRAGGLER * usual
        or (load.queue.p99 or 0.0) >= LONG_QUEUE
    ):
        return
    yield Finding(
        "Stragglers",
        "warning",
        f"half of the answers take {duration(load.whole_answer.p50)}, the slowest of a hundred {duration(slow)}",
        [f"prompts: {_length(load.prompt_length)}", f"in the queue {duration(load.queue.p99)} at most"],
        "ask for fewer tokens (max_tokens) in the long requests, or bound both by engine.maxModelLen",
        section=SECTION,
    )


def _length(latency: Latency) -> str:
    if latency.p50 is None:
        return "none ended yet"
    return f"half up to {latency.p50:.0f} tokens, 99 of 100 up to {latency.p99:.0f}"


def _percent(share: float | None) -> str:
    return "nothing" if share is None else f"{share:.0%}"
