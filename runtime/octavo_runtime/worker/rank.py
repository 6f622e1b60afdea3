"""A further rank of a model that several processes compute together: it does what the first rank does.

Started by the first rank as `python -m octavo_runtime.worker.rank CONFIG_JSON RANK STORE DESCRIPTOR`, the descriptor
being its end of a line to it. Scores are the same in all ranks, and so is what is drawn from them: what a rank is told
is the plans alone."""

import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.protocol import logs

if TYPE_CHECKING:
    from octavo_runtime.worker.executor import Executor

BEAT, UP, READY, FAILED = b"beat", b"up", b"ready", b"failed "
"""What a rank says: that it lives, that it is about to join the others, that it can compute, and why it ends."""

_BEAT_SECONDS = 0.5


class _Line:
    """This end of the line; a thread beats on it from the start, and ends the process where nobody hears it."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)
        self._sending = threading.Lock()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def say(self, what: bytes) -> None:
        with self._sending:
            self._connection.send_bytes(what)

    def hear(self) -> bytes:
        """The next message. Raises EOFError: the first rank is gone."""
        return self._connection.recv_bytes()

    def _beat(self) -> None:
        pause = threading.Event()
        try:
            while not pause.wait(_BEAT_SECONDS):
                self.say(BEAT)
        except OSError:
            # The main thread may wait for ranks that are gone, in a call that nothing else ends.
            os._exit(1)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the API process decides
    logs.configure_child()
    config, rank, store = EngineConfig.model_validate_json(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    line = _Line(int(sys.argv[4]))
    try:
        _compute(config, rank, store, line)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0  # the first rank is gone
    except Exception as error:  # the last line of defence: whatever ends a rank is told to the first one
        if not isinstance(error, ValueError | OSError):
            traceback.print_exc()
        line.say(FAILED + f"{type(error).__name__}: {error}".encode())
        return 1
    return 0


def _compute(config: EngineConfig, rank: int, store: str, line: _Line) -> None:
    from octavo_runtime.distributed.group import join, leave
    from octavo_runtime.models.loading.files import locate
    from octavo_runtime.worker.executor import device_executor, device_of

    files = locate(config.model)
    line.say(UP)
    executor = device_executor(config, files, join(rank, config.tensor_parallel_size, store, device_of(config)))
    line.say(READY)
    try:
        _obey(executor, line)
    finally:
        leave()


def _obey(executor: "Executor", line: _Line) -> None:
    from octavo_runtime.worker.orders import Draw, Launch, Prepare, decode, masks_of

    while True:
        match decode(line.hear()):
            case Launch(plan):
                launched = executor.launch(plan)
                if plan.masked:
                    order = decode(line.hear())
                    assert isinstance(order, Draw)
                    launched.result(masks_of(order))
                elif not launched.leads:
                    launched.result(None)
            case Prepare():
                executor.prepare()
            case Draw():
                raise AssertionError("no masked step was started")


if __name__ == "__main__":
    sys.exit(main())
