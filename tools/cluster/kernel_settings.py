"""The kernel settings that a node changes: remembered before, given back after."""

import json
from pathlib import Path

from paths import KERNEL_SETTINGS

# ip_forward is ours; kube-proxy and kubelet write the others.
CHANGED = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/bridge/bridge-nf-call-iptables",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def change() -> None:
    """Remember the settings as they are, unless an earlier run has, and let the machine forward packets."""
    if not KERNEL_SETTINGS.exists():
        values = {name: path.read_text().strip() for name in CHANGED if (path := _path(name)).exists()}
        KERNEL_SETTINGS.write_text(json.dumps(values, indent=1))
    _write("net/ipv4/ip_forward", "1")


def restore() -> None:
    """Give back what `change` remembered."""
    if not KERNEL_SETTINGS.exists():
        return
    for name, value in json.loads(KERNEL_SETTINGS.read_text()).items():
        _write(name, value)
    KERNEL_SETTINGS.unlink()


def _write(name: str, value: str) -> None:
    path = _path(name)
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)


def _path(name: str) -> Path:
    return Path("/proc/sys") / name
