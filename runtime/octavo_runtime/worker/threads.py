"""How many threads compute a step on a CPU."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def available_cpus(cgroups: Path = _CGROUPS) -> int:
    """Whole CPUs that this process may keep busy: those it may run on, or fewer where its container has a quota (a
    pod's CPU limit) or OMP_NUM_THREADS says so, as to every program that shares its loops by OpenMP.

    The quota is rounded down: a thread that is throttled keeps the others waiting at the end of every loop."""
    cpus = len(os.sched_getaffinity(0))
    quota, asked = _quota(cgroups), os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isascii() and asked.isdecimal():
        cpus = max(1, min(cpus, int(asked)))
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def _quota(cgroups: Path) -> float | None:
    """CPUs of the container's limit, of cgroup v2 or v1; None without one."""
    unified = cgroups / "cpu.max"
    if unified.exists():
        limit, period = unified.read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    legacy = cgroups / "cpu" / "cpu.cfs_quota_us"
    if legacy.exists():
        limit = legacy.read_text().strip()
        period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        return None if int(limit) < 0 else int(limit) / int(period)
    return None
