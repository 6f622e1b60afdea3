"""A further node of a model that several machines compute together: its ranks are started, and told what node 0 says,
which sends each order once to each node. Free of torch."""

import logging
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.interface import use_network_of
from octavo_runtime.distributed.mesh import mesh_of
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.worker.follower import Follower, RankFailed, end_all, start_ranks_of
from octavo_runtime.worker.line import BEAT, FAILED, READY, RESULT, SILENT_SECONDS, UP, Line, Silent, line_of
from octavo_runtime.worker.nodes import WELCOMES, Welcome, hello
from octavo_runtime.worker.orders import Join, encode

_CALL_SECONDS = 5.0  # that one try may take
_PAUSE_SECONDS = 1.0  # between two tries
_WELCOME_SECONDS = 30.0
_TOLD_SECONDS = 2.0  # in which node 0 tells which rank failed first, where one here failed because of it

_log = logging.getLogger(__name__)


class NodeRefused(ValueError):
    """Node 0 was told to compute something else; one line that says what differs."""


class Node:
    """This node's part. `unready`: why its ranks cannot compute yet; None: they can."""

    def __init__(self, config: EngineConfig, files: ModelFiles) -> None:
        self._config = config
        self._files = files
        self._name = f"node 0 ({config.master_addr} port {config.master_port})"
        self._line: Line | None = None
        self._stopped = threading.Event()
        self._failure: str | None = None
        self.unready: str | None = f"waiting for {self._name}"

    def run(self) -> str:
        """Computes until the engine ends, and all its ranks with it; why, in one line. Raises NodeRefused."""
        end = self._call()
        if end is None:
            return "stopped"
        (here, *_), (there, *_) = end.getsockname(), end.getpeername()
        use_network_of(here)
        self._line = line = line_of(end)
        if self._stopped.is_set():
            line.cut()
        first = self._config.node_rank * self._config.local_ranks
        ranks: list[Follower] = []
        try:
            welcome = self._introduce(line)
            line.beat(lambda: None)
            ranks += start_ranks_of(self._config, range(first, first + self._config.local_ranks))
            for rank in ranks:
                rank.tell(encode(Join(there, welcome.port)))
            self.unready = "loading"
            for rank in ranks:
                threading.Thread(target=self._watch, args=[rank, line], name="watch", daemon=True).start()
            threading.Thread(target=self._tell_progress, args=[ranks, line], name="progress", daemon=True).start()
            teller = mesh_of(self._config).teller - first
            if 0 <= teller < len(ranks):
                threading.Thread(target=_tell_results, args=[ranks[teller], line], name="results", daemon=True).start()
            self._hand_on(line, ranks)
            raise AssertionError("it hands on until the line ends")
        except RankFailed as failed:
            reason = str(failed)
            line.cut(FAILED + reason.encode())
        except Silent:
            reason = f"{self._name} said nothing for {SILENT_SECONDS:g} s"
        except (EOFError, OSError):
            reason = f"{self._name} is gone"
        except _Told as told:
            reason = self._failure = f"{self._name}: {told}"
        finally:
            line.cut()
            end_all(ranks)
        return self._failure or ("stopped" if self._stopped.is_set() else reason)

    def stop(self) -> None:
        """Has `run` end soon."""
        self._stopped.set()
        if self._line is not None:
            self._line.cut()

    def _call(self) -> socket.socket | None:
        """The connection to node 0, however long it takes to be there; None where this node is stopped meanwhile."""
        while not self._stopped.is_set():
            try:
                return socket.create_connection((self._config.master_addr, self._config.master_port), _CALL_SECONDS)
            except OSError:
                self._stopped.wait(_PAUSE_SECONDS)
        return None

    def _introduce(self, line: Line) -> Welcome:
        line.say(msgspec.msgpack.encode(hello(self._config, self._files)))
        answer = line.hear(_WELCOME_SECONDS)
        if answer.startswith(FAILED):
            raise NodeRefused(answer.removeprefix(FAILED).decode())
        try:
            welcome = WELCOMES.decode(answer)
        except msgspec.DecodeError:
            found = f"{self._config.master_addr} port {self._config.master_port}"
            raise NodeRefused(f"master_addr: must lead to node 0, got {found}, where something else answers") from None
        _log.info("joined %s", self._name)
        return welcome

    def _hand_on(self, line: Line, ranks: Sequence[Follower]) -> None:
        while True:
            word = line.hear(SILENT_SECONDS)
            if word.startswith(FAILED):
                raise _Told(word.removeprefix(FAILED).decode())
            if word != BEAT:
                for rank in ranks:
                    rank.tell(word)  # of one that is gone, its own thread tells

    def _tell_progress(self, ranks: Sequence[Follower], line: Line) -> None:
        for word in (UP, READY):
            for rank in ranks:
                rank.wait_for(word)
            if any(rank.gone.is_set() for rank in ranks):
                return
            try:
                line.say(word)
            except OSError:
                return
        self.unready = None

    def _watch(self, rank: Follower, line: Line) -> None:
        rank.gone.wait()
        if rank.lost_another:
            time.sleep(_TOLD_SECONDS)
        if rank.failure is not None and self._failure is None:
            self._failure = rank.failure
            line.cut(FAILED + rank.failure.encode())


def _tell_results(rank: Follower, line: Line) -> None:
    with suppress(OSError):
        while True:
            line.say(RESULT + rank.results.get())


class _Told(Exception):
    """Node 0 has said why it ends."""
