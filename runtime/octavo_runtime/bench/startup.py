"""`octavo bench startup`: how long a server takes from the start of its process to its first token."""

import os
import re
import tempfile
import time

import httpx

from octavo_runtime.bench.machine import machine
from octavo_runtime.bench.rows import Row, publish
from octavo_runtime.bench.server import Server, serving
from octavo_runtime.config.flags import engine_flags
from octavo_runtime.protocol.metrics import STARTUP_SECONDS

_ANSWER_SECONDS = 60.0


def run(model: str, starts: int, settings: dict[str, object], *, as_json: bool) -> None:
    """Starts a server so often, the first time with an empty cache, then with what that kept, and prints the seconds of
    each start: to the phases of octavo_startup_seconds beside the whole. settings: the engine's, by name. BadOption
    where the server cannot start."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for turn in range(starts):
            figures, server = _start(model, engine_flags(settings), cache)
            rows.append(Row("filled cache" if turn else "empty cache", figures))
    publish("startup", machine(server.device), f"{model} {server.dtype}, seconds", rows, None, as_json=as_json)


def _start(model: str, flags: list[str], cache: str) -> tuple[dict[str, float], Server]:
    began = time.perf_counter()
    with serving(model, flags, environment={**os.environ, "OCTAVO_CACHE": cache}) as server:
        ready = time.perf_counter() - began
        with httpx.Client(base_url=server.base_url, timeout=_ANSWER_SECONDS) as client:
            request = {"model": _name(client), "prompt": "Hello", "max_tokens": 2, "stream": True}
            with client.stream("POST", "/completions", json=request) as answer:
                answer.raise_for_status()
                next(answer.iter_lines())
                first_token = time.perf_counter() - began
            return {"ready": ready, "first token": first_token, **_phases(client)}, server


def _name(client: httpx.Client) -> str:
    name: str = client.get("/models").raise_for_status().json()["data"][0]["id"]
    return name


def _phases(client: httpx.Client) -> dict[str, float]:
    text = client.get(client.base_url.copy_with(path="/metrics")).raise_for_status().text
    lines = re.finditer(rf'^{STARTUP_SECONDS.name}{{.*phase="(\w+)".*}} (\S+)$', text, re.MULTILINE)
    return {f"phase {line[1]}": float(line[2]) for line in lines}
