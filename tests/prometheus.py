"""Prometheus and promtool: those on PATH, else Debian's package, unpacked into the cache and not installed."""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from paths import CACHE

UNPACKED = CACHE / "prometheus"  # a folder for each version


@functools.cache
def program(name: str) -> str:
    """Path of `prometheus` or `promtool`; skips the test where it is not to be had."""
    found = shutil.which(name) or _unpacked(name)
    if found is None:
        _fetch()
        found = _unpacked(name)
    if found is None:
        pytest.skip(f"no {name} (Debian: apt-get install prometheus)")
    return found


def _unpacked(name: str) -> str | None:
    return next((str(path) for path in sorted(UNPACKED.glob(f"*/usr/bin/{name}"), reverse=True)), None)


def _fetch() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return
    UNPACKED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        download = ["apt-get", "download", "prometheus"]
        if subprocess.run(download, cwd=folder, capture_output=True).returncode:
            subprocess.run(["apt-get", "update", "-q"], capture_output=True)
            subprocess.run(download, cwd=folder, capture_output=True)
        for package in Path(folder).glob("*.deb"):
            version = package.name.split("_")[1].replace("%3a", "-")
            unpacked = Path(folder, version)
            subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True, capture_output=True)
            if not (UNPACKED / version).exists():
                unpacked.rename(UNPACKED / version)
