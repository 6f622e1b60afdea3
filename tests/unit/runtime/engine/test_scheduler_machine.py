"""Random histories of scheduler, block tables and block pools on a simulated device, checked at every step.

A slice of it runs here; `make soak` sets OCTAVO_SOAK and runs 100,000 steps."""

import os
from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sequences import BLOCK, make_sequence, make_tables
from simulated_device import VOCAB, SimulatedDevice, chain, embedding

from octavo_runtime.engine.request import Sequence
from octavo_runtime.engine.scheduler import Scheduler
from octavo_runtime.models.layer_groups import most_entries
from octavo_runtime.protocol.pooling_params import PoolingParams

SOAK = "OCTAVO_SOAK" in os.environ
MOST_TOKENS = 6 * BLOCK

happened: Counter[str] = Counter()


class SchedulerMachine(RuleBasedStateMachine):
    """Arrivals, forks, pauses, aborts and steps in tiny pools. `expected`: what each answer must be, worked out from
    its prompt alone."""

    @initialize(
        spare_blocks=st.integers(0, 14),
        host_blocks=st.integers(0, 10),
        seqs=st.integers(1, 5),
        budget=st.integers(5, 40),
        prefix_caching=st.booleans(),
        modes=st.lists(st.sampled_from(["swap", "recompute"]), min_size=1, max_size=5),
        full_groups=st.integers(0, 2),
        sliding_groups=st.integers(0, 2),
        window=st.integers(2, 3 * BLOCK),
    )
    def start(
        self, spare_blocks, host_blocks, seqs, budget, prefix_caching, modes, full_groups, sliding_groups, window
    ):
        budget = max(budget, seqs)
        windows = (None,) * full_groups + (window,) * sliding_groups or (None,)
        # What the longest sequence needs, and no more.
        blocks = sum(most_entries(one, BLOCK, MOST_TOKENS, budget) for one in windows) + spare_blocks
        self.tables = make_tables(blocks, host_blocks, prefix_caching=prefix_caching, windows=windows, budget=budget)
        self.scheduler = Scheduler(
            self.tables,
            max_num_seqs=seqs,
            max_num_batched_tokens=budget,
            preemption_mode=lambda one: modes[one.known % len(modes)],
        )
        self.device = SimulatedDevice(blocks, host_blocks, BLOCK, windows)
        self.alive: list[Sequence] = []
        self.held: list[Sequence] = []
        self.half_done: set[Sequence] = set()  # embeddings that were computed in part, and then gave way
        self.arrivals = 0
        self.idle_steps = 0

    @rule(
        prefix=st.integers(0, 4 * BLOCK),
        family=st.integers(0, 2),
        own=st.integers(1, 10),
        new=st.integers(1, 12),
        n=st.sampled_from([1, 1, 1, 2, 4]),
        urgency=st.integers(0, 3),
        pooling=st.sampled_from([None, None, None, "mean", "last"]),
    )
    def arrive(self, prefix, family, own, new, n, urgency, pooling):
        prompt = [family] * min(prefix, MOST_TOKENS - own - new) + [1000 + self.arrivals] * own
        pooled = pooling and PoolingParams(pooling=pooling)
        order = float(self.arrivals + 5 * urgency)
        sequence = make_sequence(self.arrivals, prompt, new, n=n, order=order, pooling=pooled)
        self.arrivals += 1
        self.alive.append(sequence)
        self.scheduler.add(sequence)

    @rule()
    def step(self):
        under_way = {one for one in self.scheduler.running if one.request.pooling and one.computed}
        schedule = self.scheduler.plan()
        self.half_done |= under_way.difference(self.scheduler.running)
        self.scheduler.check_integrity()
        pairs = list(zip(schedule.sequences, schedule.plan.slices, strict=True))
        assert len({id(one) for one, _ in pairs}) == len({item.row for _, item in pairs}) == len(pairs)
        self.idle_steps = 0 if pairs else self.idle_steps + 1
        # One step may bring nothing: the only one that could run gave way to those that are held.
        assert self.idle_steps < 2 or len(self.held) == len(self.alive), "somebody could run, nobody does"
        result = self.device.run(schedule.plan)
        happened["steps"] += 1
        happened.update(move.kind.name for move in schedule.plan.moves)
        for sequence, item in pairs:
            end = item.start + len(item.token_ids)
            assert item.token_ids == sequence.tokens[item.start : end]
            self.device.check(item, sequence.tokens[:end])
        self.scheduler.commit(schedule)
        happened["shed"] += sum(table.first > 0 for one in schedule.sequences for table in one.tables)
        for number, ((sequence, item), samples) in enumerate(zip(pairs, result.samples, strict=True)):
            if item.draws:
                self.grow(sequence, [sample.token_id for sample in samples])
            elif number in result.embeddings:
                self.finish_embedding(sequence, result.embeddings[number])

    def finish_embedding(self, sequence: Sequence, found: bytes) -> None:
        pooling = sequence.request.pooling
        assert pooling is not None
        assert sequence.known == sequence.request.prompt_len
        assert found == embedding(chain(sequence.tokens), pooling), "a token's state lost or counted twice"
        self.alive.remove(sequence)
        self.scheduler.remove(sequence)
        happened[f"pooled: {pooling.pooling}"] += 1
        if sequence in self.half_done:
            happened[f"pooled after giving way: {pooling.pooling}"] += 1

    def grow(self, sequence: Sequence, tokens: list[int]) -> None:
        grown = [sequence, *(sequence.fork(index) for index in sequence.draws[1:])]
        for child in grown[1:]:
            self.scheduler.fork(sequence, child)
            self.alive.append(child)
        sequence.draws = [sequence.index]
        for one, token in zip(grown, tokens, strict=True):
            assert token == hash((chain(one.tokens)[-1], one.index)) % VOCAB, "a token lost or doubled"
            one.tokens.append(token)
            if one.generated == one.request.max_tokens:
                self.alive.remove(one)
                self.scheduler.remove(one)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def abort(self, data):
        sequence = data.draw(st.sampled_from(self.alive))
        self.alive.remove(sequence)
        if sequence in self.held:
            self.held.remove(sequence)
        self.scheduler.remove(sequence)
        happened["aborts"] += 1

    @precondition(lambda self: any(_may_be_held(one) for one in self.scheduler.running))
    @rule(data=st.data())
    def hold(self, data):
        sequence = data.draw(st.sampled_from([one for one in self.scheduler.running if _may_be_held(one)]))
        self.scheduler.hold(sequence)
        self.held.append(sequence)
        happened["held"] += 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def resume(self, data):
        sequence = data.draw(st.sampled_from(self.held))
        self.resume_one(sequence)

    def resume_one(self, sequence: Sequence) -> None:
        happened["resumed after giving way"] += sequence.row is None
        self.held.remove(sequence)
        self.scheduler.resume(sequence)

    @invariant()
    def books_balance(self):
        self.scheduler.check_integrity()
        assert len(self.scheduler.started) + len(self.scheduler.waiting) == len(self.alive)

    def teardown(self):
        """Everybody left ends, in bounded time, and nothing is left over."""
        for sequence in list(self.held):
            self.resume_one(sequence)
        for _ in range(40 * (len(self.alive) + 4)):
            if not self.alive:
                break
            self.step()
        assert not self.alive, "somebody starves"
        assert self.tables.pool.num_used == self.tables.host_pool.num_used == 0
        happened["swapped"] += self.scheduler.preemptions.swap
        happened["recomputed"] += self.scheduler.preemptions.recompute
        happened["cached tokens"] += self.tables.prefix_hits


def _may_be_held(sequence: Sequence) -> bool:
    """Beams are held once they have computed all their tokens, and may lose their blocks only then."""
    return bool(sequence.draws) and sequence.known - sequence.computed == 1


def test_random_histories_keep_every_block_and_token(capsys):
    happened.clear()
    run_state_machine_as_test(
        SchedulerMachine,
        settings=settings(
            max_examples=3000 if SOAK else 250,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=not SOAK,
        ),
    )
    # The histories are about something: all of this took place in them.
    seen = [
        "steps",
        "swapped",
        "recomputed",
        "cached tokens",
        "COPY",
        "aborts",
        "held",
        "resumed after giving way",
        "shed",
    ]
    seen += ["pooled: mean", "pooled: last"]
    if SOAK:
        seen += ["pooled after giving way: mean", "pooled after giving way: last"]
    assert [what for what in seen if not happened[what]] == []
    if SOAK:
        assert happened["steps"] >= 100_000
        with capsys.disabled():
            print("\nhistories: " + ", ".join(f"{count:,} {what}" for what, count in sorted(happened.items())))
