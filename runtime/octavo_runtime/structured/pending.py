"""Requests that wait for their grammars."""

from collections.abc import Hashable, Iterator
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from octavo_runtime.structured.grammars import Grammar

Owner = TypeVar("Owner", bound=Hashable)


class PendingGrammars(Generic[Owner]):
    """Which request waits for which grammar. Those that are done come up by themselves: nobody asks each one. For one
    thread, beside that which compiles."""

    def __init__(self) -> None:
        self._pending: dict[Owner, Future[Grammar]] = {}
        self._done: SimpleQueue[Owner] = SimpleQueue()

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, owner: Owner, grammar: Future[Grammar]) -> None:
        """`owner` waits for this grammar."""
        self._pending[owner] = grammar
        grammar.add_done_callback(lambda _: self._done.put(owner))

    def discard(self, owner: Owner) -> bool:
        """`owner` waits no more; whether it did."""
        return self._pending.pop(owner, None) is not None

    def take_done(self, wait_seconds: float) -> Iterator[tuple[Owner, Future[Grammar]]]:
        """Those whose grammars are done, or cannot be. Waits for the first one at most so long."""
        while wait_seconds or not self._done.empty():
            try:
                owner = self._done.get(timeout=wait_seconds) if wait_seconds else self._done.get_nowait()
            except Empty:
                return
            wait_seconds = 0
            if owner in self._pending:
                yield owner, self._pending.pop(owner)
