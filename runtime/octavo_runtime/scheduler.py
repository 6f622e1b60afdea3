"""Who runs in the next step, with how many tokens. Pure Python: it counts tokens and never looks at their values.

There is one kind of work: "compute n more tokens of this sequence". A prompt, a chunk of a prompt and a decode differ
in n alone (Yu et al. 2022, iteration-level scheduling; Agrawal et al. 2024, chunked prefill)."""

import heapq
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from octavo_runtime.block_tables import BlockTables
from octavo_runtime.request import Sequence
from octavo_runtime.step import NewRow, Slice, StepPlan, TableUpdate

PreemptionMode = Literal["recompute", "swap"]


@dataclass
class Preemptions:
    """How often a running sequence gave its blocks to another, by how it resumes."""

    recompute: int = 0
    swap: int = 0

    @property
    def total(self) -> int:
        return self.recompute + self.swap


@dataclass(frozen=True)
class Schedule:
    """A planned step. `sequences` stand behind the plan's slices, one for one."""

    plan: StepPlan = field(default_factory=StepPlan)
    sequences: tuple[Sequence, ...] = ()


@dataclass
class _Budget:
    """What a step has left: tokens in all, and of these tokens of prompts. More than one token of a sequence is a piece
    of a prompt."""

    tokens: int
    prompt_tokens: int

    @property
    def spent(self) -> bool:
        return min(self.tokens, self.prompt_tokens) == 0

    def fit(self, needed: int) -> int:
        """How many of the tokens that a sequence needs."""
        return min(needed, self.tokens, self.prompt_tokens if needed > 1 else 1)

    def take(self, count: int) -> None:
        self.tokens -= count
        self.prompt_tokens -= _of_prompt(count)

    def give_back(self, count: int) -> None:
        self.tokens += count
        self.prompt_tokens += _of_prompt(count)


class Scheduler:
    """Continuous batching under a token budget, in the sequences' order.

    Each step serves decodes first, then prompts under way, then those that wait, until the budget of
    `max_num_batched_tokens` or the `max_num_seqs` rows are spent. A sequence enters only when there is room for all its
    known tokens; while another computes the very block that it needs next, it lets others pass. When a running sequence
    needs a block and none is free, the last one in order gives its blocks back and resumes later, by computing them
    anew or from host memory. The first in order never gives way, and nobody that fits passes it, so every one ends."""

    def __init__(
        self,
        tables: BlockTables,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        preemption_mode: Callable[[Sequence], PreemptionMode] = lambda _: "recompute",
    ) -> None:
        self.tables = tables
        self.waiting: list[Sequence] = []  # both lists are in the sequences' order
        self.running: list[Sequence] = []
        self.preemptions = Preemptions()
        self._max_num_batched_tokens = max_num_batched_tokens
        self._preemption_mode = preemption_mode
        self._free_rows = list(range(max_num_seqs))
        self._new_rows: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence without blocks into the queue."""
        insort(self.waiting, sequence, key=_order)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """The child goes on beside its parent, sharing its blocks; it waits where no row is free or the parent itself
        does not run."""
        if self._free_rows and parent in self.running:
            self.tables.fork(parent, child)
            self._take_row(child)
        else:
            self.add(child)

    def remove(self, sequence: Sequence) -> None:
        """Ends a sequence in any state and frees its blocks."""
        if sequence in self.running:
            self._leave_row(sequence)
        else:
            self.waiting.remove(sequence)
        self.tables.release(sequence)

    def plan(self, prompt_tokens: int | None = None) -> Schedule:
        """The next step's work. Blocks for all of it are in the sequences' block tables. `prompt_tokens`: at most so
        many tokens of prompts, where a slow device cannot take the whole budget in good time."""
        preempted = self.preemptions.total
        budget = _Budget(self._max_num_batched_tokens, prompt_tokens or self._max_num_batched_tokens)
        counts = self._serve_running(budget)
        if self.preemptions.total == preempted:
            self._admit(counts, budget)
        scheduled = tuple(counts)
        return Schedule(
            StepPlan(
                moves=self.tables.take_moves(),
                new_rows=self._take_new_rows(),
                tables=[self._table_update(sequence) for sequence in scheduled if _is_unsynced(sequence)],
                slices=[_slice(sequence, count) for sequence, count in counts.items()],
            ),
            scheduled,
        )

    def commit(self, schedule: Schedule) -> None:
        """The step has run: its tokens are computed."""
        for sequence, item in zip(schedule.sequences, schedule.plan.slices, strict=True):
            sequence.computed += len(item.token_ids)
            self.tables.commit(sequence)

    def check_integrity(self) -> None:
        """Raises IntegrityError unless each block is free or held exactly as often as the tables name it."""
        self.tables.check_integrity([*self.running, *self.waiting])

    def _serve_running(self, budget: "_Budget") -> dict[Sequence, int]:
        """Continues what runs: how many tokens of which sequence."""
        counts: dict[Sequence, int] = {}
        # Decodes first: a long prompt takes what budget they leave, so it never stalls them.
        for sequence in sorted(self.running, key=lambda one: one.known - one.computed > 1):
            count = budget.fit(sequence.known - sequence.computed)
            if count == 0 or sequence.paused or sequence.row is None:
                continue  # it waits for its other beams, or gave way in this very step
            while self.tables.num_missing(sequence, sequence.computed + count) > self.tables.pool.num_free:
                victim = self.running[-1]
                budget.give_back(counts.pop(victim, 0))
                self._preempt(victim)
                if victim is sequence:
                    break
            else:
                self.tables.extend(sequence, sequence.computed + count)
                counts[sequence] = count
                budget.take(count)
        return counts

    def _admit(self, counts: dict[Sequence, int], budget: "_Budget") -> None:
        """Moves sequences from waiting to running while budget, rows and blocks last."""
        upcoming = self.tables.upcoming(self.running) if self.waiting else set()
        for sequence in list(self.waiting):
            if budget.spent:
                return
            if sequence.paused or (upcoming and self.tables.next_missing(sequence) in upcoming):
                continue
            while not (self._free_rows and self.tables.enter(sequence)):
                # Beams that wait for this one may hold what it needs, and nothing else will ever free it.
                if counts or not self._preempt_paused():
                    return
            self.waiting.remove(sequence)
            self._take_row(sequence)
            counts[sequence] = budget.fit(sequence.known - sequence.computed)
            budget.take(counts[sequence])
            upcoming |= self.tables.upcoming([sequence])

    def _preempt_paused(self) -> bool:
        """Sets the last paused sequence back; False where none runs, or something else runs that will end."""
        if not self.running or not all(sequence.paused for sequence in self.running):
            return False
        self._preempt(self.running[-1])
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._leave_row(sequence)
        if self._preemption_mode(sequence) == "swap" and self.tables.can_swap_out(sequence):
            self.tables.swap_out(sequence)
            self.preemptions.swap += 1
        else:
            self.tables.release(sequence)
            self.preemptions.recompute += 1
        self.add(sequence)

    def _take_row(self, sequence: Sequence) -> None:
        sequence.row = heapq.heappop(self._free_rows)
        sequence.started = True
        insort(self.running, sequence, key=_order)
        self._new_rows.append(sequence)

    def _leave_row(self, sequence: Sequence) -> None:
        assert sequence.row is not None
        heapq.heappush(self._free_rows, sequence.row)
        sequence.row = None
        self.running.remove(sequence)
        if sequence in self._new_rows:
            self._new_rows.remove(sequence)

    def _take_new_rows(self) -> list[NewRow]:
        new_rows = [
            NewRow(
                one.row,
                one.request.params,
                list(one.tokens),
                one.request.prompt_len,
                one.request.seed,
                one.request.pooling,
            )
            for one in self._new_rows
            if one.row is not None
        ]
        self._new_rows = []
        return new_rows

    def _table_update(self, sequence: Sequence) -> TableUpdate:
        assert sequence.row is not None
        update = TableUpdate(sequence.row, sequence.synced, sequence.block_table[sequence.synced :])
        sequence.synced = len(sequence.block_table)
        return update


def _slice(sequence: Sequence, count: int) -> Slice:
    assert sequence.row is not None
    start, end = sequence.computed, sequence.computed + count
    return Slice(sequence.row, start, sequence.tokens[start:end], sequence.draws if end == sequence.known else [])


def _of_prompt(count: int) -> int:
    return count if count > 1 else 0


def _is_unsynced(sequence: Sequence) -> bool:
    return sequence.synced < len(sequence.block_table)


def _order(sequence: Sequence) -> tuple[float, int, int]:
    return sequence.order
