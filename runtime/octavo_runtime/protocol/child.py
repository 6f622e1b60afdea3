"""A process that ends with the one that started it, whatever ends that, and even while it is stopped itself and hears
of nothing: Linux kills it."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future

from octavo_runtime.protocol.interrupts import interrupts_blocked

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start_child(
    module: str, words: Sequence[str], *, pass_fds: Collection[int] = (), env: Mapping[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    """Runs `python -m module`, which must call `end_with_parent`: its arguments are the words, and this process's id.
    It hears of no Ctrl-C. Raises OSError, and RuntimeError where there can be no thread."""
    born: Future[subprocess.Popen[bytes]] = Future()

    def attend() -> None:
        try:
            process = subprocess.Popen(  # not multiprocessing, whose start methods pickle
                [sys.executable, "-m", module, *words, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=pass_fds,
                env=env,
            )
        except BaseException as error:
            born.set_exception(error)
            return
        born.set_result(process)
        process.wait()

    with interrupts_blocked():  # of the thread, too
        # Linux takes the thread that started a process for its parent, so that one stays.
        threading.Thread(target=attend, name="parent", daemon=True).start()
        return born.result()


def end_with_parent(parent: int) -> None:
    """Has this process end with its parent, which may be gone before the first line runs here."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) is refused")
    if os.getppid() != parent:
        os._exit(1)
