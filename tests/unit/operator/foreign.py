"""Other projects' definitions of resources, from their Go modules."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import golang
import pytest
from live import Kubernetes
from patience import eventually


def definition(module: str, path: str) -> Path:
    """The file of a definition; skips where it is not to be had.

    Args:
        module: name@version.
        path: of the file in the module.
    """
    command = [golang.go(), "mod", "download", "-json", module]
    done = subprocess.run(command, cwd="/", env=os.environ | {"GOFLAGS": ""}, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{module} cannot be fetched: {done.stderr.strip() or json.loads(done.stdout).get('Error')}")
    return Path(json.loads(done.stdout)["Dir"]) / path


@contextmanager
def defined(kubernetes: Kubernetes, file: Path) -> Iterator[None]:
    """The API server knows the resource as long as this lasts."""
    kubernetes.kubectl("apply", "--server-side", "-f", str(file))
    try:
        # kubectl wait fails on a definition that has no condition yet.
        state = ("get", "-f", str(file), "-o", "jsonpath={.status.conditions[?(@.type=='Established')].status}")
        eventually(lambda: kubernetes.kubectl(*state, check=False) == "True", what=f"{file.name} is established")
        yield
    finally:
        kubernetes.kubectl("delete", "-f", str(file), "--wait=false")
