"""Out of memory: of the GPU, or of the pod."""

import re
from collections.abc import Iterator

from octavo_operator.commands import levers
from octavo_operator.commands.evidence import Evidence, Object, container, last_end, state
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.load import Load
from octavo_operator.status.diagnosis import OOM_KILLED, last_line

_GPU_OUT_OF_MEMORY = re.compile(r"CUDA out of memory|CUDA error: out of memory|torch\.(cuda\.)?OutOfMemoryError")
SECTION = "out-of-memory"


def gpu_out_of_memory(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """The engine asked the GPU for more than there was."""
    said = {pod["metadata"]["name"]: line for pod in evidence.pods if (line := gpu_line(evidence, pod))}
    if not said:
        return
    service, change = evidence.service, {}
    told = [f"pod {pod}: {line}" for pod, line in said.items()]
    if service is not None:
        now = levers.settings(service)
        told.append(f"gpuMemoryUtilization {now.gpu_memory_utilization}, maxNumSeqs {now.max_num_seqs}")
        change = levers.both(levers.less_gpu_memory(service), levers.fewer_sequences(service))
    yield Finding(
        "GpuOutOfMemory",
        "critical",
        f"the GPU ran out of memory on {len(said)} of {len(evidence.pods)} pods",
        told,
        "leave more of the GPU's memory to a step, or bound the length of requests by engine.maxModelLen; "
        "`octavo plan MODEL --gpu NAME` says what fits",
        change,
        SECTION,
    )


def gpu_line(evidence: Evidence, pod: Object) -> str:
    """What a pod said when the GPU's memory was used up; empty where it was not."""
    log = evidence.logs.get(pod["metadata"]["name"])
    texts = [last_end(pod).get("message", "")] + ([log.current, log.previous] if log else [])
    lines = [line for text in texts for line in text.splitlines() if _GPU_OUT_OF_MEMORY.search(line)]
    return last_line(lines[-1]) if lines else ""


def pod_out_of_memory(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """The kernel killed the engine for want of the pod's memory."""
    killed = [pod for pod in evidence.pods if last_end(pod).get("reason") == OOM_KILLED]
    if not killed:
        return
    service, change = evidence.service, {}
    told = [_told(pod) for pod in killed]
    if service is not None:
        change = levers.more_memory(service)
        cache = service.spec.engine.kv_cache_memory
        told.append(f"resources.memory {service.spec.resources.memory}, engine.kvCacheMemory {cache or 'not set'}")
    yield Finding(
        "PodOutOfMemory",
        "critical",
        f"{len(killed)} of {len(evidence.pods)} pods ran out of memory and were killed",
        told,
        "give the pods more memory, or make engine.kvCacheMemory smaller",
        change,
        SECTION,
    )


def _told(pod: Object) -> str:
    limit = container(pod).get("resources", {}).get("limits", {}).get("memory", "the node's memory")
    ended = last_end(pod).get("finishedAt", "an unknown time")
    restarts = state(pod).get("restartCount", 0)
    return f"pod {pod['metadata']['name']}: {OOM_KILLED} at {ended}, {restarts} restarts, limit {limit}"
