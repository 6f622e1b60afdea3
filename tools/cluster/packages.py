"""The Debian packages that the cluster runs on, and how any others are installed."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from commands import run, succeeds
from steps import StepFailed, step

# What shows that a package is there -> the package.
PACKAGES = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "socat": "socat",
    "ethtool": "ethtool",
    "openssl": "openssl",
    "buildah": "buildah",
    "skopeo": "skopeo",
    "debootstrap": "debootstrap",
}
# Debian starts these as services when it installs them; the cluster runs its own.
SERVICES = {"etcd-server": "etcd", "containerd": "containerd"}


def missing(packages: Mapping[str, str] = PACKAGES) -> list[str]:
    """Names of the packages that are not installed; `packages`: what shows that it is there -> the package."""
    return [
        package
        for sign, package in packages.items()
        if not (Path(sign).exists() if sign.startswith("/") else shutil.which(sign))
    ]


def ensure(packages: Mapping[str, str] = PACKAGES) -> None:
    """Install those of `packages` (see `missing`) that are not there with apt-get.

    Raises:
        StepFailed: they cannot be installed here.
    """
    absent = missing(packages)
    if not absent:
        return
    advice = f"run as root: apt-get install {' '.join(absent)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise StepFailed(f"these packages are missing: {', '.join(absent)}", advice)
    with step(f"apt-get install {' '.join(absent)}", expect="about a minute, once"):
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], env=env, advice=advice)
        run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *absent], env=env, advice=advice)
        for package in absent:
            if package in SERVICES:
                succeeds(["systemctl", "disable", "--now", SERVICES[package]])
