"""A chat template in a process of its own, which ends when the template takes too much."""

import json
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from typing import Any

MOST_CPU_SECONDS = 1.0
MOST_MEGABYTES = 512  # of address space


class TemplateRefusal(Exception):
    """The template fails on what it is to render, or takes too much; says why in one line."""


class TemplateProcess:
    """Renders one template, a conversation at a time; for any thread. The process starts with the first of them, and
    again after a death."""

    def __init__(self, source: str, *, cpu_seconds: float = MOST_CPU_SECONDS, megabytes: int = MOST_MEGABYTES) -> None:
        self._source = source
        self._limits = [str(megabytes), str(cpu_seconds)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._variables: frozenset[str] = frozenset()

    def start(self) -> frozenset[str]:
        """Starts the process ahead of its first use; the variables that the template asks for. Raises TemplateRefusal
        where it does not compile."""
        with self._lock:
            if self._process is None:
                self._start()
            return self._variables

    def render(self, variables: Mapping[str, Any]) -> str:
        """The template's text. Raises TemplateRefusal."""
        question = json.dumps(variables)
        with self._lock:
            text: str = self._ask(self._process or self._start(), question)["text"]
        return text

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "octavo_runtime.text.template_sandbox", *self._limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._variables = frozenset(self._ask(process, json.dumps(self._source))["variables"])
        self._process = process
        weakref.finalize(self, _end, process)
        return process

    def _ask(self, process: subprocess.Popen[bytes], question: str) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(question.encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            self._process = None
            _end(process)
            megabytes, cpu_seconds = self._limits
            bound = f"{float(cpu_seconds):g} s" if process.returncode == -signal.SIGPROF else f"{megabytes} MiB"
            raise TemplateRefusal(f"it must render within {bound}")
        answer: dict[str, Any] = json.loads(line)
        if "refusal" in answer:
            if self._process is None:
                _end(process)
            raise TemplateRefusal(answer["refusal"])
        return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()
