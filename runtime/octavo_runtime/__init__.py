"""Octavo's engine and server. Importing the package imports no torch: its names load on first use."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo_runtime.async_engine import AsyncEngine
    from octavo_runtime.config.engine import EngineConfig
    from octavo_runtime.engine.engine import Engine
    from octavo_runtime.llm import LLM
    from octavo_runtime.protocol.sampling_params import SamplingParams
    from octavo_runtime.text.answers import CompletionOutput, RequestOutput

__all__ = ["LLM", "AsyncEngine", "CompletionOutput", "Engine", "EngineConfig", "RequestOutput", "SamplingParams"]
__version__ = "0.1.0"

# libgomp reads this when torch loads: how long a thread spins at the end of a parallel loop before it sleeps. Its
# default of 300,000 turns makes a step 5 to 10 times as long beside any other busy process, since a spinning barrier
# waits for a thread that lost its core; not spinning at all costs a third of the speed on a quiet machine.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_HOMES = {
    "AsyncEngine": "async_engine",
    "CompletionOutput": "text.answers",
    "Engine": "engine.engine",
    "EngineConfig": "config.engine",
    "LLM": "llm",
    "RequestOutput": "text.answers",
    "SamplingParams": "protocol.sampling_params",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
