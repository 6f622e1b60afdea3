"""Who computes with this process and is told what to do: a further rank of this node, or another node."""

import queue
import socket
import subprocess
import threading
import time
from collections.abc import Sequence

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.protocol.child import start_child
from octavo_runtime.worker.line import BEAT, FAILED, READY, RESULT, SILENT_SECONDS, UP, Line, Silent, line_of

_LOADING_SECONDS = 120.0  # a rank's silence while it loads: imports hold up its thread that beats
_END_SECONDS = 5.0
# In what gloo, NCCL and the store say of a connection that broke.
_BROKEN = ("gloo/transport", "remote process exited", "TCPStore")


class RankFailed(OSError):
    """A rank or a node is gone; one line that names it."""


def lost_another(words: str) -> bool:
    """Whether what a rank says of its end is that the connection to another one broke."""
    return any(each in words for each in _BROKEN)


class Follower:
    """One of them, and the thread that hears it. process: of a rank of this node; it ends with the follower. results:
    what it told of steps, see `orders`."""

    def __init__(self, name: str, line: Line, process: "subprocess.Popen[bytes] | None" = None) -> None:
        self._name = name
        self._line = line
        self._process = process
        self.failure: str | None = None
        self.failed_at = 0.0  # in seconds of `monotonic`
        self.gone = threading.Event()
        self._said: dict[bytes, threading.Event] = {UP: threading.Event(), READY: threading.Event()}
        self.results: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._last_words = ""
        self._ends = False
        threading.Thread(target=self._hear, name=name, daemon=True).start()

    def wait_for(self, what: bytes) -> None:
        """Until it has said so, or is gone."""
        self._said[what].wait()

    def tell(self, message: bytes) -> bool:
        """Sends an order; whether it could be sent."""
        try:
            self._line.say(message)
        except OSError:
            return False
        return True

    def let_go(self, why: str = "") -> None:
        """Has a rank end; lets a node know that the engine ends, and why where it is no good end."""
        self._ends = True
        self._line.cut(FAILED + why.encode() if why and self._process is None else b"")

    def wait(self) -> None:
        """Until a rank that was let go has ended."""
        if self._process is None:
            return
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def lost_another(self) -> bool:
        """Whether it failed because the connection to another rank broke, which has failed first."""
        return lost_another(self._last_words)

    @property
    def _patience(self) -> float:
        loads = self._process is not None and not self._said[READY].is_set()
        return _LOADING_SECONDS if loads else SILENT_SECONDS

    def _hear(self) -> None:
        try:
            while True:
                word = self._line.hear(self._patience)
                if word in self._said:
                    self._said[word].set()
                elif word.startswith(RESULT):
                    self.results.put(word.removeprefix(RESULT))
                elif word != BEAT:
                    self._last_words = word.removeprefix(FAILED).decode()
        except Silent:
            failure = self._silence(f"said nothing for {self._patience:g} s")
        except (EOFError, OSError):
            failure = self._end()
        self._line.cut()
        if not self._ends:
            self.failure, self.failed_at = failure, time.monotonic()
        for event in (*self._said.values(), self.gone):
            event.set()

    def _silence(self, reason: str) -> str:
        if self._process is None:
            return f"{self._name} {reason}"
        self._process.kill()
        self._process.wait()
        return f"{self._name} (process {self._process.pid}) {reason} and was ended"

    def _end(self) -> str:
        told = f": {self._last_words}" if self._last_words else ""
        if self._process is None:
            return f"{self._name}{told or ' is gone'}"
        code = self._process.wait()
        return f"{self._name} (process {self._process.pid}) ended with exit code {code}{told}"


def end_all(followers: Sequence[Follower], why: str = "") -> None:
    """Ends them, and waits for those of this node. why: one line, where it is no good end."""
    for follower in followers:
        follower.let_go(why)
    for follower in followers:
        follower.wait()


def start_ranks_of(config: EngineConfig, ranks: Sequence[int]) -> list[Follower]:
    """Further ranks, each in a process of its own on this machine. They import what they need, and wait for the order
    to join the others. Raises RankFailed, when none is left."""
    started: list[Follower] = []
    try:
        for rank in ranks:
            started.append(_start(config, rank))
    except (OSError, RuntimeError) as error:  # no process, or no thread to hear it
        end_all(started)
        reason = getattr(error, "strerror", None) or error
        raise RankFailed(f"rank {rank} of {config.num_ranks} cannot be started: {reason}") from None
    return started


def _start(config: EngineConfig, rank: int) -> Follower:
    ours, theirs = socket.socketpair()
    with theirs:
        words = [config.model_dump_json(), str(rank), str(theirs.fileno())]
        process = start_child("octavo_runtime.worker.rank", words, pass_fds=[theirs.fileno()])
    try:
        return Follower(f"rank {rank} of {config.num_ranks}", line_of(ours), process)
    except RuntimeError:
        process.kill()
        process.wait()
        raise
