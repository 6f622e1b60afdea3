"""Throughput: the device could do more than it is asked to."""

from collections.abc import Iterator

from octavo_operator.commands import levers
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.load import Load
from octavo_operator.commands.rules.latency import FULL, has_few_sequences, is_queue

BUSY_GPU = 0.7  # of the time; the source's bound of low utilisation
SECTION = "throughput"


def few_sequences(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """maxNumSeqs keeps requests waiting though the KV cache has room."""
    service = evidence.service
    if load is None or service is None or not has_few_sequences(evidence, load) or not is_queue(load):
        return
    now = levers.settings(service).max_num_seqs
    told = [f"{load.running} run and {load.waiting} wait on {load.pods} pods; maxNumSeqs {now}"]
    told.append(f"KV cache {load.kv_usage:.0%} full, {load.generated_tokens:.0f} tokens a second")
    told += [f"GPUs {load.gpu:.0%} at work"] if load.gpu is not None else []
    yield Finding(
        "FewSequences",
        "critical",
        f"{load.waiting} requests wait, and only maxNumSeqs keeps them from running",
        told,
        "let more sequences share a step; each then takes a little longer for a token",
        levers.more_sequences(service),
        SECTION,
    )


def gpu_starved(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """Requests wait and the GPU does too: the host does not keep up."""
    if load is None or evidence.service is None or load.gpu is None or load.gpu >= BUSY_GPU:
        return
    if not is_queue(load) or has_few_sequences(evidence, load) or load.kv_usage >= FULL:
        return
    yield Finding(
        "GpuStarved",
        "warning",
        f"{load.waiting} requests wait while the GPUs are at work for {load.gpu:.0%} of the time",
        [
            f"resources.cpu {evidence.service.spec.resources.cpu}, {load.requests:.1f} requests a second",
            f"KV cache {load.kv_usage:.0%} full, {load.running} run",
        ],
        "tokenising and HTTP want more CPU; --api-workers in engine.extraArgs spreads them over processes",
        levers.more_cpu(evidence.service),
        SECTION,
    )


def gpu_idle(_evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """The clients ask for too little at a time."""
    if load is None or load.gpu is None or load.gpu >= BUSY_GPU or load.waiting or not load.running:
        return
    yield Finding(
        "ClientsAskForLittle",
        "warning",
        f"the GPUs are at work for {load.gpu:.0%} of the time, and no request waits",
        [f"{load.running} requests run on {load.pods} pods, {load.generated_tokens:.0f} tokens a second"],
        "send more requests at once, or run fewer replicas: nothing in the service holds requests back",
        section=SECTION,
    )


def prefix_cache_off(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """Prompts that begin alike are computed in full each time."""
    service = evidence.service
    if load is None or service is None or service.spec.engine.enable_prefix_caching or load.prompt_tokens <= 0:
        return
    yield Finding(
        "PrefixCacheOff",
        "warning",
        "prefix caching is off, so every prompt is computed in full",
        [f"{load.prompt_tokens:.0f} prompt tokens a second; enablePrefixCaching false"],
        "turn it on: it costs nothing where prompts have nothing in common",
        {"engine": {"enablePrefixCaching": True}},
        SECTION,
    )


def prefix_cache_too_small(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """Requests push out the prefixes that later ones would find."""
    if load is None or evidence.service is None or load.hit_rate is None or load.hit_rate_ever is None:
        return
    if load.kv_usage < 0.9 or load.hit_rate_ever < 0.1 or load.hit_rate >= load.hit_rate_ever / 2:
        return
    yield Finding(
        "PrefixCacheTooSmall",
        "warning",
        f"the prefix cache finds {load.hit_rate:.0%} of prompt tokens, and {load.hit_rate_ever:.0%} over its life",
        [f"KV cache {load.kv_usage:.0%} full, room for {load.kv_tokens:,} tokens"],
        "a larger KV cache keeps prefixes for longer",
        levers.more_cache(evidence.service),
        SECTION,
    )


def chatty_log(evidence: Evidence, load: Load | None) -> Iterator[Finding]:
    """What is written for people to debug costs time with every request."""
    if evidence.arguments.get("--log-level") != "debug" or load is None or load.requests <= 0:
        return
    yield Finding(
        "DebugLog",
        "warning",
        "the server logs at level debug under load",
        [f"--log-level debug, {load.requests:.1f} requests a second"],
        "take --log-level=debug out of engine.extraArgs, or of podTemplate",
        section=SECTION,
    )
