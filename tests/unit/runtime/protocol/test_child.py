"""Processes that end with the one that started them."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE, eventually

CHILD = """
import sys, time
from octavo_runtime.protocol.child import end_with_parent
end_with_parent(int(sys.argv[-1]))
print("up", sys.argv[1:-1], flush=True)
time.sleep(1e6)
"""
# Starts a child from a thread that ends when it is told to.
PARENT = """
import sys, threading
from octavo_runtime.protocol.child import start_child

def start():
    start_child("waiting_child", ["a", "b"])
    sys.stdin.readline()

starting = threading.Thread(target=start)
starting.start()
starting.join()
print("joined", flush=True)
sys.stdin.read()
"""


@contextmanager
def family(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", psutil.Process]]:
    """A process and the child that it has started."""
    (folder / "waiting_child.py").write_text(CHILD)
    words, environment = [sys.executable, "-c", PARENT], {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **environment}) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up ['a', 'b']\n"
        [child] = psutil.Process(parent.pid).children()
        try:
            yield parent, child
        finally:
            parent.kill()


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("stopped", [False, True])
def test_a_child_ends_with_its_parent(tmp_path: Path, stopped: bool) -> None:
    with family(tmp_path) as (parent, child):
        if stopped:
            child.suspend()
        parent.kill()
        eventually(lambda: gone(child), "the child ends")


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    with family(tmp_path) as (parent, child):
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "joined\n"
        time.sleep(0.5)  # for what must not happen
        assert not gone(child)


def test_a_child_whose_parent_is_gone_before_it_begins_ends() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    words = [sys.executable, "-c", CHILD, str(gone.pid)]
    assert subprocess.run(words, stdout=subprocess.DEVNULL, timeout=PATIENCE).returncode == 1
