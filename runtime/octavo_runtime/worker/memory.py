"""How much memory this machine has left, for the KV cache and for swapped blocks."""

from pathlib import Path
from typing import NamedTuple

import psutil
import torch


class _Controller(NamedTuple):
    """A container's memory controller: files of its limit and usage, and of what the usage is made of."""

    limit: str
    usage: str
    file_pages: tuple[str, str]  # keys of memory.stat


_CONTROLLERS = (
    _Controller("memory.max", "memory.current", ("inactive_file", "active_file")),  # cgroup v2
    _Controller(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),  # cgroup v1
)
_CGROUPS = Path("/sys/fs/cgroup")


def free_host_memory(cgroups: Path = _CGROUPS) -> int:
    """Bytes that this process may still take: the machine's free memory, or less where its container is limited.

    Pages of files count as free, as the machine's own do: the kernel gives them up before it ends a process. A new
    container is charged for all that it reads of its image."""
    free = int(psutil.virtual_memory().available)
    for controller in _CONTROLLERS:
        limit, usage = cgroups / controller.limit, cgroups / controller.usage
        if limit.exists() and usage.exists():
            words = limit.read_text().strip()
            if words != "max":
                stat = dict(line.split() for line in (usage.parent / "memory.stat").read_text().splitlines())
                pages = sum(int(stat.get(key, 0)) for key in controller.file_pages)
                free = min(free, int(words) - int(usage.read_text()) + pages)
    return max(free, 0)


def gpu_cache_bytes(device: torch.device, utilization: float, reserve_bytes: int) -> int:
    """Bytes of a GPU's memory left under `utilization` once the weights are loaded and `reserve_bytes` (see
    plan.reserve_bytes) kept. All bytes in use on the GPU count, other processes' too."""
    free, total = torch.cuda.mem_get_info(device)
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    used = total - free - reusable
    return int(total * utilization) - used - reserve_bytes
