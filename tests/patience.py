"""Waiting for what comes in no time on an idle machine, however busy this one is."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

# Seconds. Nothing is measured by it: who waits in vain for so long is told what was missed.
PATIENCE = 600.0
# Seconds between two looks: as long as one took, which may start a kubectl, so that what is waited for has processors.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0


def eventually(look: Callable[[], Found], what: str | Callable[[], object] = "") -> Found:
    """The first true answer of `look()`; fails after PATIENCE, with `what` was missed and what was seen last."""
    began = time.monotonic()
    end = began + PATIENCE
    while not (found := look()):
        _in_vain_after(end, what, found)
        time.sleep(min(max(_SHORTEST_PAUSE, time.monotonic() - began), _LONGEST_PAUSE))
        began = time.monotonic()
    return found


async def eventually_async(look: Callable[[], Found], what: str | Callable[[], object] = "") -> Found:
    """As `eventually`, while the event loop goes on."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        _in_vain_after(end, what, found)
        await asyncio.sleep(_SHORTEST_PAUSE)
    return found


def _in_vain_after(end: float, what: str | Callable[[], object], found: object) -> None:
    if time.monotonic() > end:
        missed = what() if callable(what) else what
        raise AssertionError(f"not within {PATIENCE:g} s: {missed}; last seen: {found!r}")
