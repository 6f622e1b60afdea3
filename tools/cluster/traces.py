"""What a cluster can leave on a machine: links, firewall chains and rules, mounts, control groups, processes, pods'
logs."""

import json
from pathlib import Path

import cgroups
import processes
from commands import run


def traces() -> set[str]:
    """Everything of these kinds that is there now. `down` is right when this is what it was before `up`."""
    found = {f"link {link['ifname']}" for link in json.loads(run(["ip", "-j", "link"]))}
    for family in ("iptables", "ip6tables"):
        lines = run([f"{family}-save"]).splitlines()
        # Rules, and chains of their own ("-" for a policy); built-in chains may be listed or not.
        found |= {f"{family} {line}" for line in lines if line.startswith("-A ")}
        found |= {f"{family} {line.split()[0]}" for line in lines if line.startswith(":") and line.split()[1] == "-"}
    found |= {f"log {path}" for folder in ("pods", "containers") for path in Path("/var/log", folder).glob("*")}
    found |= {f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines()}
    found |= {f"control group {path}" for path in cgroups.MOUNT.glob(f"**/{cgroups.GROUP}*")}
    found |= {f"control group {path}" for path in cgroups.MOUNT.glob("**/kubepods*")}
    return found | {f"process {process.pid}" for process in processes.marked()}
