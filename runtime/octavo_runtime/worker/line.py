"""A line between two processes that compute a model together, on one machine or on two."""

import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

BEAT, UP, READY, RESULT, FAILED = b"beat", b"up", b"ready", b"result ", b"failed "
"""What is said beside orders: that the sender lives, that it is about to join the others, that it can compute, what a
step brought, and why it ends."""

SILENT_SECONDS = 7.0  # who says nothing for so long is taken for dead

_BEAT_SECONDS = 0.5


class Silent(Exception):
    """Nothing was said for as long as one listened."""


class Line:
    """This end of a line. Several threads may speak, and one listens. Free of torch, so that a process beats from its
    start on."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._speaking = threading.Lock()

    def say(self, what: bytes) -> None:
        """Raises OSError: nobody is at the other end."""
        with self._speaking:
            self._connection.send_bytes(what)

    def hear(self, seconds: float | None = None, most: int | None = None) -> bytes:
        """The next message. Raises Silent, and EOFError or OSError: nobody is at the other end, or somebody who sends
        more than `most` bytes, or stops within a message."""
        if not self._connection.poll(seconds):
            raise Silent
        return self._connection.recv_bytes(most)

    def cut(self, last_word: bytes = b"") -> None:
        """Ends the line for both, and whatever either is about to say or hear."""
        if last_word:
            with suppress(OSError):
                self.say(last_word)
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    def beat(self, alone: Callable[[], object]) -> None:
        """Says from now on, in a thread of its own, that this process lives; `alone` is called once nobody is at the
        other end."""
        threading.Thread(target=self._beat, args=[alone], name="beat", daemon=True).start()

    def _beat(self, alone: Callable[[], object]) -> None:
        pause = threading.Event()
        with suppress(OSError):
            while not pause.wait(_BEAT_SECONDS):
                self.say(BEAT)
        alone()


def line_of(end: socket.socket) -> Line:
    """The line over a connected socket, which is the line's from now on."""
    end.settimeout(None)
    if end.family != socket.AF_UNIX:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Of what comes within a message; for a message itself one waits as long as one likes.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", round(SILENT_SECONDS), 0))
    return Line(Connection(end.detach()))
