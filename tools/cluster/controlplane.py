"""The control plane: etcd, API server, controller manager and scheduler."""

from pathlib import Path

import api
import network
import pki
import processes
from binaries import bin_dir
from paths import ETCD
from steps import wait_until

# Not etcd's usual ports: Debian's package, or another cluster, may have one running there.
ETCD_CLIENT = "http://127.0.0.1:12379"
ETCD_PEER = "http://127.0.0.1:12380"

NAMES = ("scheduler", "controller-manager", "apiserver", "etcd")


def ensure() -> None:
    """Start what does not run, and wait until the API server is ready."""
    processes.ensure("etcd", _etcd())
    processes.ensure("apiserver", _apiserver())
    wait_until(_ready, 60, lambda: processes.ended("apiserver"))
    processes.ensure("controller-manager", _controller_manager())
    processes.ensure("scheduler", _scheduler())


def healthy() -> bool:
    """Whether all of it runs and answers."""
    return all(processes.running(name) for name in NAMES) and api.ready()


def _ready() -> bool:
    for name in ("etcd", "apiserver"):
        if not processes.running(name):
            raise processes.ended(name)
    return api.ready()


def _etcd() -> list[str | Path]:
    return [
        "etcd",
        f"--data-dir={ETCD}",
        f"--listen-client-urls={ETCD_CLIENT}",
        f"--advertise-client-urls={ETCD_CLIENT}",
        f"--listen-peer-urls={ETCD_PEER}",
        f"--initial-advertise-peer-urls={ETCD_PEER}",
        f"--initial-cluster=default={ETCD_PEER}",
        # A cluster for tests may lose its last writes with the machine's power.
        "--unsafe-no-fsync",
    ]


def _apiserver() -> list[str | Path]:
    return [
        _program("kube-apiserver"),
        f"--etcd-servers={ETCD_CLIENT}",
        f"--bind-address={network.NODE_ADDRESS}",
        f"--advertise-address={network.NODE_ADDRESS}",
        f"--secure-port={pki.API_PORT}",
        f"--service-cluster-ip-range={network.SERVICE_RANGE}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={pki.crt('ca')}",
        f"--tls-cert-file={pki.crt('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki.service_account_key()}",
        f"--service-account-signing-key-file={pki.service_account_key()}",
        f"--kubelet-certificate-authority={pki.crt('ca')}",
        f"--kubelet-client-certificate={pki.crt('kubelet-client')}",
        f"--kubelet-client-key={pki.key('kubelet-client')}",
        "--kubelet-preferred-address-types=InternalIP",
        # Aggregated API servers (the metrics APIs) trust callers that the front proxy's certificate vouches for.
        f"--requestheader-client-ca-file={pki.crt('ca')}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki.crt('front-proxy')}",
        f"--proxy-client-key-file={pki.key('front-proxy')}",
        "--enable-aggregator-routing=true",
    ]


def _controller_manager() -> list[str | Path]:
    return [
        _program("kube-controller-manager"),
        f"--kubeconfig={pki.kubeconfig('controller-manager')}",
        f"--root-ca-file={pki.crt('ca')}",
        f"--service-account-private-key-file={pki.service_account_key()}",
        "--use-service-account-credentials",
        "--allocate-node-cidrs",
        f"--cluster-cidr={network.POD_RANGE}",
        f"--service-cluster-ip-range={network.SERVICE_RANGE}",
        "--leader-elect=false",
        # Autoscaling is tested here: ask for metrics more often than the usual 15 s.
        "--horizontal-pod-autoscaler-sync-period=5s",
    ]


def _scheduler() -> list[str | Path]:
    return [_program("kube-scheduler"), f"--kubeconfig={pki.kubeconfig('scheduler')}", "--leader-elect=false"]


def _program(name: str) -> Path:
    """The program's real path, so that a rebuilt one is seen as a change."""
    return (bin_dir() / name).resolve()
