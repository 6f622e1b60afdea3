"""Requests from inside the cluster: a pod that waits to be told what to run."""

import json
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kube import Kube
from patience import PATIENCE, eventually

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
        self.kube.kubectl("wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=300s")

    def ask(self, url: str, model: str, question: str = "Name the capital of France.") -> str:
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
    """A running load: a context manager that ends it. `requests`: those that have ended so far."""

    def __init__(self, kube: Kube, words: Sequence[str]) -> None:
        self.requests: list[Request] = []
        self._running = kube.process(
            "kubectl", "exec", "--stdin", POD, "--", "python", "-u", "-c", LOAD, *words,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> "Load":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self, more: int) -> None:
        """Wait until so many more requests have ended."""
        count = len(self.requests) + more
        eventually(lambda: len(self.requests) >= count, f"{count} requests")

    def stop(self) -> list[Request]:
        """End it after the requests that run; all requests."""
        assert self._running.stdin
        self._running.stdin.close()
        self._reader.join(PATIENCE)
        assert self._running.wait(PATIENCE) == 0
        return self.requests

    def _read(self) -> None:
        assert self._running.stdout
        for line in self._running.stdout:
            self.requests.append(Request(**json.loads(line)) if line.startswith("{") else Request(0, 0, 0, line))
