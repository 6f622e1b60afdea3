"""Ctrl-C at the end of what must be finished."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from octavo_runtime.protocol.interrupts import interrupts_deferred


def interrupted_by(interrupt: Callable[[], None]) -> list[str]:
    done = []

    def work() -> None:
        with interrupts_deferred():
            interrupt()
            done.append("finished")
        done.append("went on")

    with pytest.raises(KeyboardInterrupt):
        work()
    return done


def test_ctrl_c_is_heard_at_the_end() -> None:
    assert interrupted_by(lambda: signal.raise_signal(signal.SIGINT)) == ["finished"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_is_heard_once_whichever_thread_the_system_tells() -> None:
    def twice_from_another_thread() -> None:
        killer = threading.Thread(target=lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
        killer.start()
        killer.join()

    assert interrupted_by(twice_from_another_thread) == ["finished"]


def test_other_threads_and_processes_that_ignore_it_are_left_alone() -> None:
    found: list[object] = []

    def within() -> None:
        with interrupts_deferred():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=within)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        within()
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [before, signal.SIG_IGN]
