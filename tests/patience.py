"""Waiting for what comes in no time on an idle machine, however busy this one is."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

# Seconds. Nothing is measured by it: who waits in vain for so long is told what was missed.
PATIENCE = 600.0


def eventually(look: Callable[[], Found], what: str | Callable[[], object] = "") -> Found:
    """The first true answer of `look()`; fails after PATIENCE, with `what` was missed and what was seen last."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        _in_vain_after(end, what, found)
        time.sleep(0.02)
    return found


async def eventually_async(look: Callable[[], Found], what: str | Callable[[], object] = "") -> Found:
    """As `eventually`, while the event loop goes on."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        _in_vain_after(end, what, found)
        await asyncio.sleep(0.02)
    return found


def _in_vain_after(end: float, what: str | Callable[[], object], found: object) -> None:
    if time.monotonic() > end:
        missed = what() if callable(what) else what
        raise AssertionError(f"not within {PATIENCE:g} s: {missed}; last seen: {found!r}")
