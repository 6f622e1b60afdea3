"""The node: kubelet and kube-proxy."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import api
import network
import pki
import processes
from binaries import bin_dir
from cgroups import GROUP
from paths import CONFIG, CONTAINERD_SOCKET, KUBELET, POD_LOGS
from steps import StepFailed, wait_until

NAME = "node-0"
NAMES = ("kubelet", "proxy")
KUBELET_HEALTH = "http://127.0.0.1:10248/healthz"


def ensure(mounts: processes.Identity) -> None:
    """Start what does not run, kubelet in the mount namespace of `mounts`, and wait until the node is ready."""
    resolv_conf = CONFIG / "resolv.conf"
    kubelet_config, proxy_config = CONFIG / "kubelet.json", CONFIG / "proxy.json"
    processes.ensure(
        "kubelet",
        [
            (bin_dir() / "kubelet").resolve(),
            f"--config={kubelet_config}",
            f"--kubeconfig={pki.kubeconfig('kubelet')}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.NODE_ADDRESS}",
            f"--root-dir={KUBELET}",
        ],
        files={kubelet_config: json.dumps(_kubelet(str(resolv_conf)), indent=1), resolv_conf: _resolv_conf()},
        mounts_of=mounts,
    )
    processes.ensure(
        "proxy",
        [(bin_dir() / "kube-proxy").resolve(), f"--config={proxy_config}"],
        files={proxy_config: json.dumps(_proxy(), indent=1)},
    )
    wait_until(_ready, 60, _not_ready)


def healthy() -> bool:
    """Whether the node runs and is ready."""
    return all(processes.running(name) for name in NAMES) and _kubelet_answers() and not _problem()


def _ready() -> bool:
    for name in NAMES:
        if not processes.running(name):
            raise processes.ended(name)
    return _kubelet_answers() and not _problem()


def _not_ready() -> StepFailed:
    return StepFailed(f"the node is not ready: {_problem()}", f"read {processes.log('kubelet')}")


def _problem() -> str:
    """Why the node is not ready, in kubelet's words; empty when it is."""
    node = api.get(f"/api/v1/nodes/{NAME}")
    if node is None:
        return "it has not registered"
    found = [one for one in node["status"].get("conditions", []) if one["type"] == "Ready"]
    if not found:
        return "it has reported no state"
    return "" if found[0]["status"] == "True" else str(found[0]["message"])


def _kubelet_answers() -> bool:
    try:
        with urllib.request.urlopen(KUBELET_HEALTH, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _resolv_conf() -> str:
    """What pods outside the cluster's DNS (CoreDNS itself) resolve with.

    Where the machine has a resolver on loopback alone, they get an address that refuses at once.
    """
    return "".join(f"nameserver {address}\n" for address in network.resolvers() or [network.NODE_ADDRESS])


def _kubelet(resolv_conf: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki.crt("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki.crt("kubelet")),
        "tlsPrivateKeyFile": str(pki.key("kubelet")),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "podLogsDir": str(POD_LOGS),
        "clusterDNS": [network.DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": resolv_conf,
        # cgroupfs serves with and without systemd, in cgroup v1 and v2.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{GROUP}",
        "failCgroupV1": False,
        # Virtual machines and containers may run with swap, and without the right to lower an OOM score or raise
        # limits.
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20000,
        "localStorageCapacityIsolation": False,
        # Images are imported, not pulled: one that is deleted to save disk would not come back.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def forget_logs() -> None:
    """Remove the links to pods' logs, which the kubelet puts where others look for them."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(POD_LOGS):
            link.unlink()


def _proxy() -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(pki.kubeconfig("proxy"))},
        "clusterCIDR": network.POD_RANGE,
        "hostnameOverride": NAME,
        "mode": "iptables",
        # Leave the kernel's connection tracking as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
