"""Work that would hold up everybody's streams and health checks, in threads beside the event loop."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from octavo_runtime.server.http.record import current_request

_Arguments = ParamSpec("_Arguments")
_Made = TypeVar("_Made")

_LARGE = 2**18  # bytes, from which on work is a matter of tenths of a second and of hundreds of megabytes

_large = ThreadPoolExecutor(1, "large-requests")


async def in_thread(work: Callable[_Arguments, _Made], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Made:
    """What `work` returns or raises, as asyncio.to_thread has it. The work of large requests is done one after the
    other: their memory does not add up, and those of usual size find a thread that is free."""
    record = current_request()
    called = partial(contextvars.copy_context().run, partial(work, *args, **kwargs))
    executor = _large if max(record.body_bytes, record.answer_bytes) > _LARGE else None
    return await asyncio.get_running_loop().run_in_executor(executor, called)
