"""How the process is told to end."""

import asyncio
import signal


def take_signals(stop: asyncio.Event) -> None:
    """From now on `stop` is set once the process is told to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
