"""Who runs in the next step, with how many tokens. Pure Python: it counts tokens and never looks at their values, which
RunIndex alone does, to guess those that may follow.

There is one kind of work: "compute n more tokens of this sequence". A prompt, a chunk of a prompt and a decode differ
in n alone (Yu et al. 2022, iteration-level scheduling; Agrawal et al. 2024, chunked prefill)."""

import heapq
from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from octavo_runtime.config.speculation import Speculation
from octavo_runtime.engine.kv_cache.block_tables import BlockTables
from octavo_runtime.engine.ordered_queue import OrderedQueue
from octavo_runtime.engine.request import Sequence
from octavo_runtime.engine.run_index import RunIndex
from octavo_runtime.protocol.step import NewRow, Slice, StepPlan, TableUpdate

PreemptionMode = Literal["recompute", "swap"]

# What one step spends on looking for those that may pass others, however many wait: sequences that it finds waiting for
# a block which another computes, and blocks that it hashes. The next step goes on.
_MOST_AWAITING = 32
_MOST_HASHED = 8192


@dataclass
class Preemptions:
    """How often a running sequence gave its blocks to another, by how it resumes."""

    recompute: int = 0
    swap: int = 0

    @property
    def total(self) -> int:
        return self.recompute + self.swap


@dataclass
class Guesses:
    """How many tokens were guessed, in how many runs, and how many of them were right."""

    runs: int = 0
    tokens: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class Schedule:
    """A planned step. `sequences` stand behind the plan's slices, one for one, and `counts` are their tokens, without
    those that are guessed. `num_tokens`: those of all slices; `num_prompt_tokens`: those of slices with more than one
    that is not guessed, which are pieces of prompts."""

    plan: StepPlan
    sequences: tuple[Sequence, ...]
    counts: tuple[int, ...]
    num_tokens: int
    num_prompt_tokens: int


class Scheduler:
    """Continuous batching under a token budget, in the sequences' order.

    Each step serves decodes first, then prompts under way, then those that wait, until the budget of
    `max_num_batched_tokens` or the `max_num_seqs` rows are spent. A sequence enters only when there is room for all its
    known tokens, of which layers with a window take those of the next step alone; while another computes the very block
    that it needs next, it lets others pass. When a running sequence needs a block and none is free, the last one in
    order gives its blocks back and resumes later, by computing them anew or from host memory. The first in order never
    gives way, and nobody that fits passes it, so every one ends. What a step costs depends on those that run, not on
    how many wait. in_chunks: whether a prompt may be computed piece by piece; else it waits for a step that has room
    for all of it, or goes alone. depth: steps that may be under way at once; each takes its share of the decodes, so
    that some are left for the others. speculation: what is guessed behind decodes, with the budget, the draws of
    `max_num_seqs` and the blocks that a step has left: the fewer run, the more."""

    def __init__(
        self,
        tables: BlockTables,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        preemption_mode: Callable[[Sequence], PreemptionMode] = lambda _: "recompute",
        in_chunks: bool = True,
        depth: int = 1,
        speculation: Speculation | None = None,
    ) -> None:
        self.tables = tables
        self.waiting: OrderedQueue[Sequence] = OrderedQueue()
        self.running: list[Sequence] = []  # in the sequences' order
        self.num_swapped = 0  # of those that do not run
        self.preemptions = Preemptions()
        self.guesses = Guesses()
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._preemption_mode = preemption_mode
        self._in_chunks = in_chunks
        self._depth = depth
        self._speculation = speculation
        self._drawing: set[Sequence] = set()  # those whose next token is under way
        self._held: list[Sequence] = []  # in the sequences' order
        self._free_rows = list(range(max_num_seqs))
        self._new_rows: list[Sequence] = []

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running or self._held)

    @property
    def started(self) -> list[Sequence]:
        """Those that run and those that are held: nobody else holds blocks of the KV cache."""
        return [*self.running, *self._held] if self._held else self.running

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence without blocks into the queue."""
        self.waiting.add(sequence.order, sequence)

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """The child goes on beside its parent, sharing its blocks; it waits where no row is free or the parent itself
        does not run."""
        if self._free_rows and parent.row is not None:
            self.tables.fork(parent, child)
            self._take_row(child)
        else:
            self.add(child)

    def remove(self, sequence: Sequence) -> None:
        """Ends a sequence in any state and frees its blocks. A step under way may still write into them: it does so
        before what the next step does with them."""
        sequence.ended = True
        self.num_swapped -= sequence.is_swapped
        if sequence in self._held:
            self._held.remove(sequence)
            self._free_row(sequence)
        elif sequence.row is not None:
            self.running.remove(sequence)
            self._free_row(sequence)
        else:
            self.waiting.remove(sequence)
        self.tables.release(sequence)

    def hold(self, sequence: Sequence) -> None:
        """One that runs has nothing to compute until `resume`. It keeps its row and blocks while nobody needs them."""
        self.running.remove(sequence)
        insort(self._held, sequence, key=_order)

    def resume(self, sequence: Sequence) -> None:
        """One that was held goes on, or waits where it has given way."""
        self._held.remove(sequence)
        if sequence.row is None:
            self.add(sequence)
        else:
            insort(self.running, sequence, key=_order)

    def plan(self, prompt_tokens: int | None = None) -> Schedule:
        """The next step's work. Blocks for all of it are in the sequences' block tables. `prompt_tokens`: at most so
        many tokens of prompts, where a slow device cannot take the whole budget in good time."""
        preempted = self.preemptions.total
        allowance = prompt_tokens or self._max_num_batched_tokens
        counts = self._serve_running(allowance)
        if self.preemptions.total == preempted:
            self._admit(counts, allowance)
        guessed = self._guess(counts)
        moves, new_rows = self.tables.take_moves(), self._take_new_rows()
        tables: list[TableUpdate] = []
        slices: list[Slice] = []
        for sequence, count in counts.items():
            assert sequence.row is not None
            tokens, start = sequence.tokens, sequence.computed
            end = start + count
            draws = sequence.draws if end == len(tokens) else []
            if self._speculation is None:
                slices.append(Slice(sequence.row, start, tokens[start:end], draws))
            else:
                guesses, accepted = guessed.get(sequence, []), tokens[start - sequence.accepted : start]
                slices.append(Slice(sequence.row, start, tokens[start:end] + guesses, draws, len(guesses), accepted))
                sequence.accepted = 0
            if sequence.tables_changed:
                tables += _updates(sequence.row, sequence)
        plan, numbers = StepPlan(moves, new_rows, tables, slices), tuple(counts.values())
        total = sum(numbers)
        num_guessed = sum(map(len, guessed.values()))
        return Schedule(plan, tuple(counts), numbers, total + num_guessed, total - numbers.count(1))

    def commit(self, schedule: Schedule, *, leads: bool = False) -> None:
        """The step is under way: for all that is planned behind it, its tokens are computed. leads: so are the tokens
        that it draws drawn; sequences that may have more than that one can go on before anybody knows it."""
        self.tables.advance(schedule.sequences, schedule.counts)
        if self._depth > 1:
            drawing = zip(schedule.sequences, schedule.plan.slices, strict=True)
            self._drawing.update(sequence for sequence, item in drawing if item.draws)
        if not leads:
            return
        for sequence, item in zip(schedule.sequences, schedule.plan.slices, strict=True):
            if item.draws and sequence.generated + 1 < sequence.request.max_tokens:
                sequence.expect()

    def accept(self, sequence: Sequence) -> None:
        """The next token that was guessed behind a sequence in the step that has ended was right: what the step
        computed of it counts, unless the sequence gave way meanwhile."""
        self.guesses.accepted += 1
        if sequence.row is not None:
            self.tables.advance([sequence], [1])
            sequence.accepted += 1

    def settle(self, schedule: Schedule) -> None:
        """The step has ended."""
        self._drawing.difference_update(schedule.sequences)

    def check_integrity(self) -> None:
        """Raises IntegrityError unless each block is free or held exactly as often as the tables name it."""
        for _ in self.proof():
            pass

    def proof(self) -> Iterator[None]:
        """What check_integrity proves, some blocks at a time. It holds only where nothing changes meanwhile."""
        yield from self.tables.proof([*self.started, *self.waiting])

    def _serve_running(self, allowance: int) -> dict[Sequence, int]:
        """Continues what runs: how many tokens of which sequence. allowance: most tokens of prompts."""
        counts: dict[Sequence, int] = {}
        budget = self._max_num_batched_tokens
        decodes: list[Sequence] = []
        prompts: list[Sequence] = []
        for sequence in self.running:
            (decodes if len(sequence.tokens) - sequence.computed <= 1 else prompts).append(sequence)
        share = -(-len(decodes) // self._depth)
        # Decodes first: a long prompt takes what budget they leave, so it never stalls them.
        for sequence in (*decodes, *prompts):
            count = len(sequence.tokens) - sequence.computed
            if count > 1 and count > allowance:
                count = allowance
            if count > budget:
                count = budget
            if count == 0 or sequence.row is None:
                continue  # its last token is under way, or it gave way in this very step
            if count == 1 and self._depth > 1:
                if not share:
                    continue  # the next step's
                share -= 1
            # Nearly every decode takes one more slot of its own last block.
            while sequence.computed + count > sequence.writable and not self.tables.extend(sequence, count):
                victim = self._last()
                given = counts.pop(victim, 0)
                budget += given
                allowance += _of_prompt(given)
                self._preempt(victim)
                if victim is sequence:
                    break
            else:
                counts[sequence] = count
                budget -= count
                if count > 1:
                    allowance -= count
        return counts

    def _admit(self, counts: dict[Sequence, int], allowance: int) -> None:
        """Moves sequences from waiting to running while budget, rows and blocks last. allowance: most tokens of
        prompts in this step."""
        if not (self.waiting and (self._free_rows or not counts)):
            return
        budget = min(
            self._max_num_batched_tokens - sum(counts.values()), allowance - sum(map(_of_prompt, counts.values()))
        )
        if not budget:
            return
        upcoming = self.tables.upcoming(counts)
        passed: list[Sequence] = []
        awaiting = hashed = 0
        while budget and self.waiting and awaiting < _MOST_AWAITING and hashed < _MOST_HASHED:
            sequence = self.waiting.pop()
            hashed_before = sequence.num_hashed
            if sequence in self._drawing:  # it gave way, and what it draws is not known yet
                passed.append(sequence)
            elif upcoming and self.tables.next_missing(sequence) in upcoming:
                passed.append(sequence)
                awaiting += 1
            elif counts and not self._in_chunks and sequence.known > budget:
                passed.append(sequence)
                break
            elif self._enter(sequence, alone=not counts):
                count = sequence.known - sequence.computed
                counts[sequence] = min(count, budget) if self._in_chunks else count
                budget = max(budget - count, 0)
                upcoming |= self.tables.upcoming([sequence])
            else:
                passed.append(sequence)
                break
            hashed += sequence.num_hashed - hashed_before
        for sequence in passed:
            self.add(sequence)

    def _guess(self, counts: dict[Sequence, int]) -> dict[Sequence, list[int]]:
        """Tokens that may follow the decodes of a step, with what the step has left."""
        if self._speculation is None:
            return {}
        guessed: dict[Sequence, list[int]] = {}
        room = min(self._max_num_batched_tokens - sum(counts.values()), self._max_num_seqs - len(counts))
        for sequence, count in counts.items():
            request, known = sequence.request, sequence.known
            most = min(self._speculation.num_speculative_tokens, room, request.max_tokens - sequence.generated - 1)
            is_decode = count == 1 and sequence.computed + 1 == known and sequence.generated > 0
            if most <= 0 or not is_decode or sequence.unknown or request.params.looks_back:
                continue
            if sequence.runs is None:
                sequence.runs = RunIndex(self._speculation)
            guesses = sequence.runs.guess(sequence.tokens, most)
            if guesses and self.tables.extend(sequence, 1 + len(guesses)):
                guessed[sequence] = guesses
                room -= len(guesses)
                self.guesses.runs += 1
                self.guesses.tokens += len(guesses)
        return guessed

    def _enter(self, sequence: Sequence, *, alone: bool) -> bool:
        """Gives a sequence that has left the queue its blocks and a row; False where either is short. alone: nothing
        else is computed in this step."""
        swapped = sequence.is_swapped
        while not (self._free_rows and self.tables.enter(sequence)):
            # Those that are held for this one may hold what it needs, and nothing else will ever free it.
            if not alone or self.running or not self._held_rows:
                return False
            self._preempt(self._last())
        self.num_swapped -= swapped
        self._take_row(sequence)
        return True

    @property
    def _held_rows(self) -> list[Sequence]:
        """Those held that have not given way."""
        return [one for one in self._held if one.row is not None]

    def _last(self) -> Sequence:
        """The last in order of those with a row."""
        return max([*self.running[-1:], *self._held_rows[-1:]], key=_order)

    def _preempt(self, sequence: Sequence) -> None:
        """Takes its row and blocks from a sequence. It waits for others, unless it is held."""
        self._free_row(sequence)
        if self._preemption_mode(sequence) == "swap" and self.tables.can_swap_out(sequence):
            self.tables.swap_out(sequence)
            self.num_swapped += 1
            self.preemptions.swap += 1
        else:
            self.tables.release(sequence)
            self.preemptions.recompute += 1
        if sequence not in self._held:
            self.running.remove(sequence)
            self.add(sequence)

    def _take_row(self, sequence: Sequence) -> None:
        sequence.row = heapq.heappop(self._free_rows)
        sequence.started = True
        insort(self.running, sequence, key=_order)
        self._new_rows.append(sequence)

    def _free_row(self, sequence: Sequence) -> None:
        if sequence.row is None:
            return
        heapq.heappush(self._free_rows, sequence.row)
        sequence.row, sequence.accepted = None, 0
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


def _updates(row: int, sequence: Sequence) -> list[TableUpdate]:
    """What the executor does not know yet of the tables of a sequence in that row; from here on it does."""
    updates = []
    for group, table in enumerate(sequence.tables):
        if table.synced < table.end:
            updates.append(TableUpdate(row, table.synced, table.behind(table.synced), group))
            table.synced = table.end
    sequence.tables_changed = False
    return updates


def _of_prompt(count: int) -> int:
    """Of so many tokens of a sequence: one alone is a decode."""
    return count if count > 1 else 0


def _order(sequence: Sequence) -> tuple[float, int, int]:
    return sequence.order
