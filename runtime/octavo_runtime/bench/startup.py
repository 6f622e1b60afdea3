"""`octavo bench startup`: how long a server takes from the start of its process to its first token."""

import json
import os
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime

import httpx
from rich.console import Console
from rich.table import Table

from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.server import Server, serving
from octavo_runtime.protocol.metrics import STARTUP_SECONDS

_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Start:
    """Seconds since the server's process was started. `phases`: of octavo_startup_seconds, in seconds."""

    ready: float
    first_token: float
    phases: dict[str, float]


def run(model: str, starts: int, *, as_json: bool) -> None:
    """Starts a server so often, the first time with an empty cache, as in a new container, then with what that kept.
    Prints a table or one JSON object. BadOption where the server cannot start."""
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(starts):
            start, server = _start(model, cache)
            found.append(start)
    told = {
        "bench": "startup",
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": machine(server.device),
        "setting": f"{model} {server.dtype}",
        "finding": f"{found[0].first_token:.1f} s from the start of the process to the first token",
        "starts": [asdict(start) for start in found],
    }
    if as_json:
        print(json.dumps(told))
        return
    console = Console(highlight=False)
    console.print(f"{told['date'][:10]}, {told['machine']}, {told['setting']}", markup=False, soft_wrap=True)
    console.print(_table(found))
    console.print(told["finding"], markup=False, soft_wrap=True)


def _start(model: str, cache: str) -> tuple[Start, Server]:
    began = time.perf_counter()
    with serving(model, environment={**os.environ, "OCTAVO_CACHE": cache}) as server:
        ready = time.perf_counter() - began
        with httpx.Client(base_url=server.base_url, timeout=_ANSWER_SECONDS) as client:
            request = {"model": _name(client), "prompt": "Hello", "max_tokens": 2, "stream": True}
            with client.stream("POST", "/completions", json=request) as answer:
                answer.raise_for_status()
                next(answer.iter_lines())
                first_token = time.perf_counter() - began
            return Start(ready, first_token, _phases(client)), server


def _name(client: httpx.Client) -> str:
    name: str = client.get("/models").raise_for_status().json()["data"][0]["id"]
    return name


def _phases(client: httpx.Client) -> dict[str, float]:
    text = client.get(client.base_url.copy_with(path="/metrics")).raise_for_status().text
    lines = re.finditer(rf'^{STARTUP_SECONDS.name}{{.*phase="(\w+)".*}} (\S+)$', text, re.MULTILINE)
    return {line[1]: float(line[2]) for line in lines}


def _table(starts: list[Start]) -> Table:
    table = Table("", "a new container", *["again"] * (len(starts) - 1))
    table.add_row("ready", *(f"{start.ready:.1f} s" for start in starts))
    table.add_row("first token", *(f"{start.first_token:.1f} s" for start in starts))
    for phase in starts[0].phases:
        table.add_row(f"phase {phase}", *(f"{start.phases[phase]:.1f} s" for start in starts))
    return table
