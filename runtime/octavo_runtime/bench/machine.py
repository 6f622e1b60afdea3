"""What a measurement ran on, by its name."""

import os
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def machine(device: str) -> str:
    """The name of a GPU as an engine's `Ready.device` gives it; for "cpu" the processor's, and how many CPUs this
    process may use."""
    if device != "cpu":
        return device
    name = platform.processor() or platform.machine()
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
                break
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs"
