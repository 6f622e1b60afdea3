"""Requests from inside the cluster: a pod that waits to be told what to run."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from kube import Kube

POD = "client"
ASK = (Path(__file__).parents[2] / "demo" / "ask.py").read_text()
LOAD = Path(__file__).with_name("load.py").read_text()


@dataclass(frozen=True)
class Client:
    """The pod `client` of a namespace."""

    kube: Kube

    def start(self, image: str) -> None:
        """Make the pod and wait until it runs."""
        container = {
            "name": POD,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "infinity"],
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "enableServiceLinks": False}
        self.kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": spec})
        self.kube.kubectl("wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=120s")

    def ask(self, url: str, model: str, question: str = "What is the capital of France?") -> str:
        """The answer, streamed through the openai client (demo/ask.py)."""
        return self.kube.kubectl("exec", POD, "--", "python", "-c", ASK, url, model, question)

    def load(self, url: str, model: str, **options: int) -> "Load":
        """Requests one after another until told to stop: see load.py for the options."""
        return Load(self.kube, [url, model, json.dumps(options)])


@dataclass(frozen=True)
class Request:
    """One request of a load. `start` and `end` are Unix times; `error` is None where it was answered in full."""

    start: float
    end: float
    tokens: int
    error: str | None


class Load:
    """A running load: a context manager that ends it."""

    def __init__(self, kube: Kube, words: Sequence[str]) -> None:
        self._running = kube.process(
            "kubectl", "exec", "--stdin", POD, "--", "python", "-u", "-c", LOAD, *words,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.requests: list[Request] = []

    def __enter__(self) -> "Load":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self, count: int) -> None:
        """Wait until `count` requests in all have been answered or have failed."""
        assert self._running.stdout
        while len(self.requests) < count:
            line = self._running.stdout.readline()
            assert line, f"the load ended after {len(self.requests)} requests"
            self._take(line)

    def stop(self) -> list[Request]:
        """End it after the request that runs; all requests."""
        if self._running.stdin and not self._running.stdin.closed:
            said, _ = self._running.communicate(timeout=120)
            for line in said.splitlines():
                self._take(line)
            assert self._running.returncode == 0, self.requests
        return self.requests

    def _take(self, line: str) -> None:
        try:
            fields: dict[str, Any] = json.loads(line)
        except ValueError:
            raise AssertionError(f"load.py said: {line}") from None
        self.requests.append(Request(**fields))
