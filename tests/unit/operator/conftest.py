"""A real API server for tests marked `cluster`: etcd, kube-apiserver and kube-controller-manager, without a node."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from authority import authority
from live import an_api_server
from nodeless import ApiServer


@pytest.fixture(scope="session")
def kstatus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that says what kstatus makes of objects; skips where Go cannot build it."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no go, which builds kstatus")
    program = tmp_path_factory.mktemp("kstatus") / "kstatus"
    folder = Path(__file__).parent / "kstatus"
    flags = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    command = [go, "build", "-buildvcs=false", "-o", str(program), "."]
    built = subprocess.run(command, cwd=folder, env=os.environ | flags, capture_output=True, text=True, timeout=900)
    if built.returncode and re.search(r"requires go >=|dial tcp|no such host|proxyconnect", built.stderr):
        pytest.skip(f"go cannot build kstatus here: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with _running(tmp_path_factory.mktemp("api-server")) as server:
        yield server


@pytest.fixture(scope="module")
def own_api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One of a module's own, for tests that change what all others rest on."""
    with _running(tmp_path_factory.mktemp("own-api-server")) as server:
        yield server


@contextmanager
def _running(folder: Path) -> Iterator[ApiServer]:
    trusted = authority(folder, "front-proxy-ca")
    proxy, proxy_key = trusted.sign("front-proxy-client")
    with an_api_server(
        folder,
        f"--requestheader-client-ca-file={trusted.path}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy}",
        f"--proxy-client-key-file={proxy_key}",
        "--enable-aggregator-routing=true",
    ) as server:
        yield server
