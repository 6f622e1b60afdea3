"""The control group that holds every pod of the cluster, in cgroup v1 (also hybrid) and v2."""

import os
import time
from pathlib import Path

import processes

GROUP = "octavo"
MOUNT = Path("/sys/fs/cgroup")


def create() -> None:
    """Make the group in every hierarchy; kubelet puts its pods below it."""
    for root in _hierarchies():
        group = root / GROUP
        if _is_v2(root):
            controllers = (root / "cgroup.controllers").read_text().split()
            (root / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
        group.mkdir(exist_ok=True)
        # A v1 cpuset starts empty, and no process may enter it until it has processors and memory.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not _is_v2(root) and (group / name).exists():
                (group / name).write_text((root / name).read_text())


def delete() -> None:
    """Kill every process in the group and remove it, with all below it."""
    for root in _hierarchies():
        if not (root / GROUP).exists():
            continue
        folders = [Path(folder) for folder, _, _ in os.walk(root / GROUP, topdown=False)]
        processes.end(_members(folders), seconds=0)
        for folder in folders:
            _remove(folder)


def _members(folders: list[Path]) -> list[processes.Identity]:
    pids = {int(pid) for folder in folders for pid in (folder / "cgroup.procs").read_text().split()}
    return [process for pid in pids if (process := processes.identity(pid))]


def _remove(folder: Path) -> None:
    """A group stays busy for a moment after its last process has gone."""
    for _ in range(100):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return


def _hierarchies() -> list[Path]:
    if _is_v2(MOUNT):
        return [MOUNT]
    # /sys/fs/cgroup may hold links such as cpu -> cpu,cpuacct.
    return sorted(path for path in MOUNT.iterdir() if path.is_dir() and not path.is_symlink())


def _is_v2(root: Path) -> bool:
    return (root / "cgroup.controllers").exists()
