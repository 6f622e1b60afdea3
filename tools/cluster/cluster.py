"""The project's own single-node Kubernetes cluster, on Linux as root: `python tools/cluster/cluster.py --help`."""

import argparse
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import addons
import api
import binaries
import cgroups
import containerd
import controlplane
import firewall
import images
import kernel_settings
import mounts
import network
import node
import packages
import pki
import processes
from paths import BIN, BUILDAH, GO_BUILDS, IMAGE_LAYOUT, KEPT_BY_DOWN, KUBECONFIG, LOCK, STATE
from steps import StepFailed, say, side_by_side, step


def up(*, with_images: bool = False) -> dict[str, str]:
    """Bring the cluster up: start what does not run, and repair what an unclean end left behind.

    Args:
        with_images: build Octavo's images at the same time, and load them.

    Returns:
        Target -> image name, with `with_images`.
    """
    with _alone():
        packages.ensure()
        if not with_images:
            _start()
            return {}
        wanted = images.names()
        side_by_side(_start, lambda: images.build(wanted))
        images.load(wanted)
        return wanted


def build() -> None:
    """Build what `up --images` needs, and start nothing."""
    with _alone():
        packages.ensure()
        side_by_side(binaries.ensure, lambda: images.build(images.names()))


def down() -> None:
    """End the cluster and remove all that it added to the machine; the images stay in the cache."""
    with _alone():
        if processes.running("containerd"):
            with step("end the pods"):
                processes.stop(["kubelet"])
                containerd.delete_containers()
        with step("end the processes; remove links, rules, mounts, control groups"):
            _clean(keep_state=False)


def purge() -> None:
    """Bring the cluster down and delete its part of the cache: programs and images."""
    down()
    with _alone(), step("delete programs and images"):
        for folder in (STATE, GO_BUILDS, BIN, BUILDAH, IMAGE_LAYOUT):
            shutil.rmtree(folder, ignore_errors=True)


def healthy() -> bool:
    """Whether every part of the cluster runs, answers, and is as this checkout would start it."""
    return bool(processes.running(mounts.HOLDER)) and controlplane.healthy() and node.healthy() and addons.healthy()


def status() -> bool:
    """Print what runs; True when the cluster is healthy."""
    for name in processes.recorded():
        alive = processes.running(name)
        print(f"{name:20} {f'running, process {alive.pid}' if alive else f'ended: read {processes.log(name)}'}")
    print(f"{'API server':20} {'ready' if api.ready() else 'does not answer'}")
    for name in addons.ADDONS:
        print(f"{name:20} {'available' if addons.available(name) else 'not available'}")
    return healthy()


def _start() -> None:
    if healthy():
        say(f"  the cluster is up: {network.url(pki.API_PORT)}")
        return
    binaries.ensure()
    if not processes.running(mounts.HOLDER):
        with step("clean up after an earlier run"):
            _clean(keep_state=True)
    with step("network, control groups, certificates"):
        STATE.mkdir(parents=True, exist_ok=True)
        kernel_settings.change()
        network.create()
        firewall.keep_services_inside(network.SERVICE_RANGE)
        cgroups.create()
        pki.ensure()
    with step("containerd"):
        holder = mounts.ensure()
        containerd.ensure(holder)
    with step("etcd, API server, controller manager, scheduler"):
        controlplane.ensure()
    with step("kubelet, kube-proxy; node ready"):
        node.ensure(holder)
    with step("CoreDNS, metrics-server"):
        addons.ensure()


def _clean(*, keep_state: bool) -> None:
    """Remove the cluster's traces from the machine, whatever state it is in; safe to repeat.

    Args:
        keep_state: keep etcd's data and the certificates, as after a restart of the machine.
    """
    processes.stop(processes.recorded(), seconds=2)
    cgroups.delete()
    processes.end(processes.marked(), seconds=2)
    mounts.delete()
    network.delete()
    firewall.clean()
    containerd.forget_running()
    if keep_state:
        return
    kernel_settings.restore()
    node.forget_logs()
    for path in STATE.glob("*"):
        if path not in KEPT_BY_DOWN:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _must_run() -> None:
    if not processes.running("containerd"):
        raise StepFailed("the cluster is not up", "run: python tools/cluster/cluster.py up")


@contextmanager
def _alone() -> Iterator[None]:
    """One `up` or `down` at a time."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise StepFailed("the cluster needs Linux and root", "use kind with Docker, or name a cluster in KUBECONFIG")
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="cluster.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    starting = commands.add_parser("up", help=_first_line(up))
    starting.add_argument("--images", action="store_true", help="also build and load Octavo's images, at the same time")
    for function in (build, down, purge, status):
        commands.add_parser(function.__name__, help=_first_line(function))
    commands.add_parser("images", help="build Octavo's images, load them, and print their names as JSON")
    loading = commands.add_parser("load-image", help="load an image archive (OCI or Docker) into the cluster")
    loading.add_argument("archive", type=Path)
    commands.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig")
    commands.add_parser("bin-dir", help="print the folder that holds kubectl and helm")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "up":
                up(with_images=arguments.images)
            case "build":
                build()
            case "down":
                down()
            case "purge":
                purge()
            case "status":
                return 0 if status() else 1
            case "images":
                _must_run()
                print(json.dumps(images.ensure(), indent=1))
            case "load-image":
                _must_run()
                containerd.import_archive(arguments.archive)
            case "kubeconfig":
                print(KUBECONFIG)
            case "bin-dir":
                print(binaries.bin_dir())
    except StepFailed as failure:
        say(f"FAILED: {failure.reason}\nWhat to do: {failure.advice}")
        return 1
    return 0


def _first_line(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
