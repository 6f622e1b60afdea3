"""The netfilter chains and rules of the cluster (kube-proxy, kubelet, CNI plugins, and one of ours); their removal."""

import re
from collections.abc import Iterator

from commands import run, succeeds

POD_NETWORK = "octavo"

SERVICES_CHAIN = "OCTAVO-SERVICES"
# kube-proxy and kubelet own every chain with the first prefix, we the other.
CLUSTER_CHAIN = re.compile(rf"^KUBE-|^{SERVICES_CHAIN}$")
# The CNI plugins write the network's name into the comment of each rule that leads to a chain of one pod.
POD_RULE = re.compile(rf'--comment "(?:dnat )?name: \\"{POD_NETWORK}\\" .*-j (CNI-\S+)')
# A pod's chain is made before the rule that leads to it, and outlives it: a plugin that is ended in between leaves the
# chain without rules, and without a name.
POD_CHAIN = re.compile(r"^CNI-[0-9a-f]+$")
# Shared by every CNI network on the machine: removed when no pod's chain is left in the first of them.
PORT_CHAINS = ("CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ")


def keep_services_inside(service_range: str) -> None:
    """Drop what is still addressed to a service when it leaves: kube-proxy has no rule for that service (yet).

    Otherwise it goes to the machine's default route, and whoever listens there, such as a transparent HTTP proxy, may
    answer in the service's place. A dropped connection attempt is repeated after 1 s by the client's kernel.
    """
    succeeds(["iptables", "-w", "-t", "mangle", "-N", SERVICES_CHAIN])
    run(["iptables", "-w", "-t", "mangle", "-F", SERVICES_CHAIN])
    run(["iptables", "-w", "-t", "mangle", "-A", SERVICES_CHAIN, "-d", service_range, "-j", "DROP"])
    if not succeeds(["iptables", "-w", "-t", "mangle", "-C", "POSTROUTING", "-j", SERVICES_CHAIN]):
        run(["iptables", "-w", "-t", "mangle", "-A", "POSTROUTING", "-j", SERVICES_CHAIN])


def clean() -> None:
    """Remove the cluster's chains and rules from all tables, IPv4 and IPv6; what others added stays."""
    for family in ("iptables", "ip6tables"):
        script = removal(run([f"{family}-save"]))
        if script:
            run([f"{family}-restore", "--noflush"], stdin=script)
        for table in empty_tables(run([f"{family}-save"])):
            # Only the nftables form of iptables can drop built-in chains; the older form refuses, harmlessly.
            succeeds([family, "-t", table, "-X"])


def removal(saved: str) -> str:
    """Turn the output of `iptables-save` into a script for `iptables-restore --noflush` that removes our part of it."""
    lines: list[str] = []
    for table, chains, rules in _tables(saved):
        ours = {chain for chain in chains if CLUSTER_CHAIN.match(chain)}
        ours |= {found[1] for rule in rules if (found := POD_RULE.search(rule))}
        ours |= {chain for chain in chains if POD_CHAIN.match(chain)} - {
            chain for rule in rules for chain in (_chain(rule), _target(rule))
        }
        others = [rule for rule in rules if _chain(rule) == PORT_CHAINS[0] and _target(rule) not in ours]
        if not others:
            ours |= set(PORT_CHAINS)
        ours &= set(chains)
        if not ours:
            continue
        lines += [f"*{table}"]
        lines += [f"-D{rule[2:]}" for rule in rules if _target(rule) in ours and _chain(rule) not in ours]
        lines += [f"-F {chain}" for chain in sorted(ours)]
        lines += [f"-X {chain}" for chain in sorted(ours)]
        lines += ["COMMIT"]
    return "".join(f"{line}\n" for line in lines)


def empty_tables(saved: str) -> list[str]:
    """Tables without any rule, own chain, or policy other than ACCEPT."""
    return [
        table
        for table, chains, rules in _tables(saved)
        if not rules and all(policy == "ACCEPT" for policy in chains.values())
    ]


def _tables(saved: str) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """Each table's name, its chains with their policies ("-" for a user's own), and its rules."""
    for block in re.findall(r"^\*.*?^COMMIT$", saved, re.M | re.S):
        header, *lines = block.splitlines()
        chains = {line[1:].split()[0]: line.split()[1] for line in lines if line.startswith(":")}
        yield header[1:], chains, [line for line in lines if line.startswith("-A ")]


def _chain(rule: str) -> str:
    return rule.split()[1]


def _target(rule: str) -> str:
    found = re.search(r" -[jg] (\S+)", rule)
    return found[1] if found else ""
