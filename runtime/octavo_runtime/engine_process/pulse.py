"""The pulse of the engine's process: a thread tells all clients that it lives, and since when its loop is at one turn.

A step may take long on a slow or busy machine. Since the thread does not wait for it, clients can tell a busy engine
from a hung one. It counts its own beats, not the clock: while a machine stands still, nothing hangs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import zmq

from octavo_runtime.protocol import last_words
from octavo_runtime.protocol.messages import Beat

_SECONDS = 0.5


def pulse_endpoint(endpoint: str) -> str:
    """Where the pulse of the engine at `endpoint` is heard."""
    return f"{endpoint}.pulse"


class Pulse:
    """Beats twice a second between `start` and `stop`. patience: seconds that a turn may take; asked at each beat."""

    def __init__(self, endpoint: str, patience: Callable[[], float]) -> None:
        self._patience = patience
        self._turn: object | None = None
        self._stopped = threading.Event()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(pulse_endpoint(endpoint))
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around one turn of the loop; between turns it waits for work."""
        self._turn = object()
        try:
            yield
        finally:
            self._turn = None

    def _beat(self) -> None:
        encoder = msgspec.msgpack.Encoder()
        last: object | None = None
        busy = 0.0
        with self._socket:
            while not self._stopped.wait(_SECONDS):
                turn = self._turn
                busy = busy + _SECONDS if turn is not None and turn is last else 0.0
                last = turn
                self._socket.send(encoder.encode(Beat(busy, self._patience(), last_words.left())))
