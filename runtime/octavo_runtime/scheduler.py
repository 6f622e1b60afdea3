"""Who runs in the next step, with how many tokens. Pure Python: it counts tokens and never looks at their values.

There is one kind of work: "compute n more tokens of this request". A prompt, a chunk of a prompt and a decode differ
in n alone (Yu et al. 2022, iteration-level scheduling; Agrawal et al. 2024, chunked prefill)."""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass

from octavo_runtime.block_pool import BlockPool
from octavo_runtime.request import Request


@dataclass(frozen=True)
class Slice:
    """`count` tokens of a request, from position `start`. `samples`: they are its last known ones, so a new token
    follows."""

    request: Request
    start: int
    count: int

    @property
    def samples(self) -> bool:
        return self.start + self.count == self.request.known


class Scheduler:
    """Continuous batching under a token budget, in order of arrival.

    Each step serves decodes first, then prompts under way, then new requests, until the budget of
    `max_num_batched_tokens` is spent. A request enters only when the pool has room for all its known tokens. When a
    running request needs a block and none is free, the newest running request gives its blocks back and is computed
    anew later; the oldest never is, so every request ends."""

    def __init__(self, pool: BlockPool, *, block_size: int, max_num_seqs: int, max_num_batched_tokens: int) -> None:
        self.pool = pool
        self.waiting: list[Request] = []  # both lists are in order of arrival
        self.running: list[Request] = []
        self.preemptions = 0
        self._block_size = block_size
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, request: Request) -> None:
        insort(self.waiting, request, key=_arrival)

    def remove(self, request: Request) -> None:
        """Ends a request in any state and frees its blocks."""
        (self.running if request in self.running else self.waiting).remove(request)
        self._free(request)

    def plan(self) -> list[Slice]:
        """The next step's work. Blocks for all of it are in the requests' block tables."""
        budget = self._max_num_batched_tokens
        slices: dict[Request, Slice] = {}
        preempted = self.preemptions
        for request in self._running_decodes_first():
            count = min(request.known - request.computed, budget)
            if count and self._make_room(request, request.computed + count, slices):
                slices[request] = Slice(request, request.computed, count)
                budget = self._max_num_batched_tokens - sum(item.count for item in slices.values())
        if preempted == self.preemptions:
            for request in self._admit(budget):
                count = min(request.known, budget)
                slices[request] = Slice(request, 0, count)
                budget -= count
        return list(slices.values())

    def check_integrity(self) -> None:
        """Raises IntegrityError unless every block is free or in exactly one running request's table per reference."""
        self.pool.check_integrity(request.block_table for request in [*self.running, *self.waiting])

    def _running_decodes_first(self) -> list[Request]:
        # A long prompt takes what budget the decodes leave, so it never stalls them.
        return sorted(self.running, key=lambda request: request.known - request.computed > 1)

    def _make_room(self, request: Request, tokens: int, slices: dict[Request, Slice]) -> bool:
        """Extends the block table to hold `tokens`, at the cost of newer requests. False: the request itself had to
        give way."""
        if request not in self.running:
            return False  # gave way to an older one in this very step
        missing = self._blocks(tokens) - len(request.block_table)
        while missing > self.pool.num_free:
            victim = self.running[-1]
            slices.pop(victim, None)
            self._preempt(victim)
            if victim is request:
                return False
        if missing > 0:
            request.block_table += self.pool.allocate(missing)
        return True

    def _admit(self, budget: int) -> Iterator[Request]:
        """Moves requests from waiting to running while budget, rows and blocks last."""
        while self.waiting and budget > 0 and len(self.running) < self._max_num_seqs:
            request = self.waiting[0]
            needed = self._blocks(request.known)
            if needed > self.pool.num_free:
                return
            self.waiting.pop(0)
            request.block_table = self.pool.allocate(needed)
            insort(self.running, request, key=_arrival)
            budget -= min(request.known, budget)
            yield request

    def _preempt(self, request: Request) -> None:
        self.running.remove(request)
        self._free(request)
        request.computed = 0
        insort(self.waiting, request, key=_arrival)
        self.preemptions += 1

    def _free(self, request: Request) -> None:
        self.pool.release(request.block_table)
        request.block_table = []

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._block_size)


def _arrival(request: Request) -> int:
    return request.arrival
