"""One mount namespace for containerd and kubelet, and the removal of mounts left behind.

Both must see each other's mounts (images, volumes), and the machine must not: so the namespace is its own, shared
within. A process that only sleeps holds it open, so that containerd or kubelet can be restarted inside it.
"""

import os
from pathlib import Path

import processes
from commands import succeeds
from paths import STATE
from steps import StepFailed, wait_until

HOLDER = "mounts"


def ensure() -> processes.Identity:
    """The process that holds the namespace; started when there is none."""
    holder = processes.ensure(
        HOLDER, ["unshare", "--mount", "sh", "-c", "mount --make-rshared / && exec sleep infinity"]
    )
    wait_until(lambda: _asleep(holder), 5, lambda: _no_namespace())
    return holder


def delete() -> None:
    """Unmount what lies below the state folder in the machine's own namespace (normally nothing)."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted(points, reverse=True):
        if point.startswith(f"{STATE}/"):
            succeeds(["umount", "--lazy", point])


def _asleep(holder: processes.Identity) -> bool:
    try:
        ready = Path(f"/proc/{holder.pid}/comm").read_text().strip() == "sleep"
        return ready and os.readlink(f"/proc/{holder.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")  # noqa: PTH115
    except OSError as gone:
        raise _no_namespace() from gone


def _no_namespace() -> StepFailed:
    return StepFailed(
        f"cannot make a mount namespace: {processes.log(HOLDER).read_text().strip() or 'no message'}",
        "the cluster needs root with CAP_SYS_ADMIN; use a virtual machine, or kind with Docker",
    )
