"""Where the cluster keeps its files.

Everything lives below one cache folder (`OCTAVO_CACHE`, by default `~/.cache/octavo`). What took long to make
(binaries, images) stays there when the cluster goes; the `cluster/` folder holds the running cluster's own state.
"""

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent

CACHE = Path(os.environ.get("OCTAVO_CACHE") or Path.home() / ".cache" / "octavo").resolve()
GO_BUILDS = CACHE / "go"
BIN = CACHE / "bin"
BUILDAH = CACHE / "buildah"
IMAGE_LAYOUT = CACHE / "images"

STATE = CACHE / "cluster"
LOGS = STATE / "log"
RECORDS = STATE / "processes"
PKI = STATE / "pki"
CONFIG = STATE / "config"
ETCD = STATE / "etcd"
KUBELET = STATE / "kubelet"
POD_LOGS = STATE / "pod-logs"
POD_ADDRESSES = STATE / "pod-addresses"
CONTAINERD_ROOT = STATE / "containerd"
CONTAINERD_RUN = STATE / "containerd-run"
CONTAINERD_SOCKET = CONTAINERD_RUN / "containerd.sock"
KERNEL_SETTINGS = STATE / "kernel-settings.json"
KUBECONFIG = STATE / "kubeconfig"
LOCK = CACHE / "cluster.lock"

# Kept by `down`: the images in containerd, which take a minute to import.
KEPT_BY_DOWN = frozenset({CONTAINERD_ROOT})
