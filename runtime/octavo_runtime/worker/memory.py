"""How much memory this machine has left, for the KV cache and for swapped blocks."""

from pathlib import Path

import psutil
import torch

# cgroup v2, then v1: a container's limit, and what it uses of it.
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def free_host_memory() -> int:
    """Bytes that this process may still take: the machine's free memory, or less where its container is limited."""
    free = int(psutil.virtual_memory().available)
    for limit, usage in _CGROUPS:
        if limit.exists() and usage.exists():
            words = limit.read_text().strip()
            if words != "max":
                free = min(free, int(words) - int(usage.read_text()))
    return max(free, 0)


def gpu_cache_bytes(device: torch.device, utilization: float, reserve_bytes: int) -> int:
    """Bytes of a GPU's memory left under `utilization` once the weights are loaded and `reserve_bytes` (see
    plan.reserve_bytes) kept. All bytes in use on the GPU count, other processes' too."""
    free, total = torch.cuda.mem_get_info(device)
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    used = total - free - reusable
    return int(total * utilization) - used - reserve_bytes
