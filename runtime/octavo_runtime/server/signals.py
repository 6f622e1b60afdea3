"""The signals that end a server."""

import asyncio
import signal


class Signals:
    """Counts SIGTERM and SIGINT; `task` is done after the first. Takes them over from the running loop's process."""

    def __init__(self) -> None:
        self.count = 0
        self._first = asyncio.Event()
        self.task = asyncio.create_task(self._first.wait())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        self.count += 1
        self._first.set()
