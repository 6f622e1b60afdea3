"""One command on the cluster that the user's kubeconfig names."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from octavo_operator.cluster import Connection, Trouble, connect_as_user
from octavo_operator.commands.gather import NoService
from octavo_runtime.config.units import parse_duration

Result = TypeVar("Result")

MAX_SECONDS = 600


def with_cluster(context: str, namespace: str, work: Callable[[Connection, str], Awaitable[Result]]) -> Result:
    """What `work` makes of a connection and the namespace that is meant. ValueError, in one line, where the cluster
    cannot be asked or has no such service."""
    for chatty in ("asyncio", "kubernetes"):  # what goes wrong is said once, in one line
        logging.getLogger(chatty).setLevel(logging.CRITICAL)

    async def run() -> Result:
        async with connect_as_user(context or None) as (cluster, usual):
            return await work(cluster, namespace or usual)

    try:
        return asyncio.run(run())
    except (NoService, Trouble) as error:
        raise ValueError(str(error)) from None


def window(text: str) -> float:
    """How long to look, in seconds; ValueError for what is no duration or out of bounds."""
    seconds = parse_duration(text)
    if not 1 <= seconds <= MAX_SECONDS:
        raise ValueError(f"--for: must be from 1s to 10m, got {text!r}")
    return seconds
