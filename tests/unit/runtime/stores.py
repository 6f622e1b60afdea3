"""A real S3 server and a real registry on 127.0.0.1, built from their Go modules once."""

import fcntl
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import binaries
import paths
import pytest
from patience import eventually


def programs() -> Path:
    """Their folder; skips where Go is not, or cannot fetch their modules."""
    if shutil.which("go") is None:
        pytest.skip("no go, which builds the S3 server and the registry")
    paths.GO_BUILDS.mkdir(parents=True, exist_ok=True)
    with (paths.GO_BUILDS / "storage.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return binaries.built(binaries.STORAGE)
        except Exception as error:
            pytest.skip(f"the S3 server and the registry cannot be built here: {error}")


@contextmanager
def running(program: str, *arguments: str) -> Iterator[str]:
    """A server that is told its port as PORT; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [programs() / program, *(word.replace("PORT", str(port)) for word in arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: _listens(port) or process.poll() is not None, what=f"{program} listens")
        assert process.poll() is None, f"{program} ended"
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
