"""The executor of a model that several processes of this machine compute together: this one is the first rank."""

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TypeVar

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import join, leave
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.protocol.step import Masks, StepPlan, StepResult
from octavo_runtime.worker.executor import Executor, Launched, device_executor, device_of
from octavo_runtime.worker.orders import Launch, Order, Prepare, draw, encode
from octavo_runtime.worker.rank import BEAT, FAILED, READY, UP

SILENT_SECONDS = 8.0  # a rank that says nothing for so long is taken for dead
_LOADING_SECONDS = 120.0  # the same while it loads: imports hold up its thread that beats
_GRACE_SECONDS = 1.5  # for the main thread to end by itself, once a rank is gone
_END_SECONDS = 5.0

_log = logging.getLogger(__name__)
Found = TypeVar("Found")


class RankFailed(OSError):
    """A rank is gone; one line that names it."""


class Follower:
    """A further rank, in a process of its own, and the thread that hears it."""

    def __init__(self, config: EngineConfig, rank: int, store: Path) -> None:
        self._name = f"rank {rank} of {config.tensor_parallel_size}"
        self._line, theirs = Pipe()
        words = [config.model_dump_json(), str(rank), str(store), str(theirs.fileno())]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "octavo_runtime.worker.rank", *words],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.failure: str | None = None
        self.gone = threading.Event()
        self._said: dict[bytes, threading.Event] = {UP: threading.Event(), READY: threading.Event()}
        self._last_words = ""
        self._ends = False
        threading.Thread(target=self._hear, args=[self._line], name=self._name, daemon=True).start()

    def wait_for(self, what: bytes) -> None:
        """Until it has said so, or is gone."""
        self._said[what].wait()

    def tell(self, message: bytes) -> bool:
        """Sends an order; whether it could be sent."""
        try:
            self._line.send_bytes(message)
        except OSError:
            return False
        return True

    def end(self) -> None:
        """Ends the process, and waits for it."""
        self._ends = True
        self._line.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def _patience(self) -> float:
        return SILENT_SECONDS if self._said[READY].is_set() else _LOADING_SECONDS

    def _hear(self, line: Connection) -> None:
        try:
            while line.poll(self._patience):
                word = line.recv_bytes()
                if word in self._said:
                    self._said[word].set()
                elif word != BEAT:
                    self._last_words = word.removeprefix(FAILED).decode()
            self.process.kill()
            reason = f"said nothing for {self._patience:g} s and was ended"
            self.process.wait()
        except (EOFError, OSError):
            code = self.process.wait()
            reason = f"ended with exit code {code}" + (f": {self._last_words}" if self._last_words else "")
        if not self._ends:
            self.failure = f"{self._name} (process {self.process.pid}) {reason}"
        for event in (*self._said.values(), self.gone):
            event.set()


class _Ranks:
    """All ranks but the first."""

    def __init__(self, followers: Sequence[Follower]) -> None:
        self.followers = followers
        self._computes = False
        self._is_ended = False
        for follower in followers:
            threading.Thread(target=self._watch, args=[follower], name="watch", daemon=True).start()

    def tell(self, order: Order) -> None:
        """Sends an order to all of them. Raises RankFailed."""
        message = encode(order)
        for follower in self.followers:
            if not follower.tell(message):
                self._find_the_gone()
        self.check()

    def wait_for(self, what: bytes) -> None:
        """Until all have said so. Raises RankFailed."""
        for follower in self.followers:
            follower.wait_for(what)
        self.check()

    def check(self) -> None:
        """Raises RankFailed where one of them is gone; then all are ended."""
        failures = [follower.failure for follower in self.followers if follower.failure is not None]
        if failures:
            self.end()
            raise RankFailed(failures[0])

    def with_them(self, compute: Callable[[], Found]) -> Found:
        """The result of what all ranks compute together. Raises RankFailed where one of them is gone."""
        self._computes = True
        try:
            return compute()
        except RuntimeError:  # of a broken connection
            self._find_the_gone()
            raise
        finally:
            self._computes = False

    def end(self) -> None:
        """Ends all ranks, and waits for them, once."""
        if self._is_ended:
            return
        self._is_ended = True
        for follower in self.followers:
            follower.end()
        leave()

    def _find_the_gone(self) -> None:
        """Waits until it is known which rank is gone. Raises RankFailed."""
        for follower in self.followers:
            follower.gone.wait(_GRACE_SECONDS)
        self.check()

    def _watch(self, follower: Follower) -> None:
        """Ends this process where its main thread waits for a rank that is gone in a call that nothing else ends, as
        NCCL's do."""
        follower.gone.wait()
        time.sleep(2 * _GRACE_SECONDS)
        if self._computes and follower.failure is not None:
            _log.critical(follower.failure)
            os._exit(1)


class RankedExecutor:
    """The Executor of all ranks. What it launches, each of them launches."""

    def __init__(self, first: Executor, ranks: _Ranks) -> None:
        self.ready, self.spec = first.ready, first.spec
        self.max_num_batched_tokens = first.max_num_batched_tokens
        self.block_bytes, self.swap_bytes_per_second = first.block_bytes, first.swap_bytes_per_second
        self._first = first
        self._ranks = ranks
        self._is_prepared = False

    def launch(self, plan: StepPlan) -> Launched:
        """See `Executor.launch`. Raises RankFailed."""
        self._ranks.tell(Launch(plan))
        launched = self._ranks.with_them(lambda: self._first.launch(plan))

        def result(masks: Masks | None) -> StepResult:
            if plan.masked:
                self._ranks.tell(draw(masks))
            return self._ranks.with_them(lambda: launched.result(masks))

        return Launched(result, launched.leads)

    def prepare(self) -> bool:
        """See `Executor.prepare`. Raises RankFailed."""
        self._ranks.check()
        if self._is_prepared:
            return False
        self._ranks.tell(Prepare())
        self._is_prepared = not self._ranks.with_them(self._first.prepare)
        return not self._is_prepared


def start_ranks(config: EngineConfig, files: ModelFiles) -> RankedExecutor:
    """Starts the other ranks, and loads this one's share beside them. They end with what is returned, or with this
    process. Raises RankFailed, and ValueError as make_executor."""
    with tempfile.TemporaryDirectory(prefix="octavo-ranks-") as folder:
        store = Path(folder) / "store"
        ranks = _Ranks([Follower(config, rank, store) for rank in range(1, config.tensor_parallel_size)])
        try:
            ranks.wait_for(UP)
            group = join(0, config.tensor_parallel_size, str(store), device_of(config))
            first = ranks.with_them(lambda: device_executor(config, files, group))
            ranks.wait_for(READY)
        except BaseException:
            ranks.end()
            raise
    executor = RankedExecutor(first, ranks)
    weakref.finalize(executor, ranks.end)
    return executor
