"""The scheduler against a stand-in for the model: each draw gets one token."""

from itertools import count

import pytest
from sequences import BLOCK, counts, make_scheduler, make_sequence, run_step

from octavo_runtime.engine.scheduler import Scheduler
from octavo_runtime.models.layer_groups import most_entries


def run_all(scheduler: Scheduler, steps: int = 1000) -> None:
    for step in count():
        if not scheduler.has_work:
            return
        assert step < steps, "somebody starves"
        run_step(scheduler)


def test_prompts_run_in_chunks_beside_decodes():
    scheduler = make_scheduler(budget=10)
    scheduler.add(make_sequence(0, 4))
    run_step(scheduler)
    scheduler.add(make_sequence(1, 25))
    assert [counts(run_step(scheduler)) for _ in range(3)] == [[(0, 1), (1, 9)], [(0, 1), (1, 9)], [(0, 1), (1, 7)]]


def test_an_older_long_prompt_does_not_stall_decodes():
    scheduler = make_scheduler(budget=8, seqs=8)
    scheduler.add(make_sequence(0, 40))
    scheduler.add(make_sequence(1, 2, max_tokens=10))
    for _ in range(6):
        run_step(scheduler)
    younger = next(one for one in scheduler.running if one.request.id == "r1")
    before = younger.generated
    scheduler.add(make_sequence(2, 60))
    run_step(scheduler)
    run_step(scheduler)
    assert younger.generated == before + 2


def test_at_most_max_num_seqs_run_each_in_a_row_of_its_own():
    scheduler = make_scheduler(seqs=2)
    for arrival in range(5):
        scheduler.add(make_sequence(arrival, 2))
    run_step(scheduler)
    assert sorted(one.row for one in scheduler.running) == [0, 1]
    assert [one.request.id for one in scheduler.waiting] == ["r2", "r3", "r4"]


def test_a_row_is_announced_once_and_keeps_its_table():
    scheduler = make_scheduler()
    scheduler.add(make_sequence(0, 10, max_tokens=12))
    plans = [run_step(scheduler).plan for _ in range(12)]
    assert [len(plan.new_rows) for plan in plans] == [1] + [0] * 11
    assert [[(table.first, len(table.blocks)) for table in plan.tables] for plan in plans] == [
        [(0, 2)],
        *[[]] * 6,
        [(2, 1)],
        *[[]] * 4,
    ]


@pytest.mark.parametrize("host_blocks", [0, 8], ids=["recompute", "swap"])
def test_the_last_in_order_gives_way_and_loses_no_token(host_blocks):
    scheduler = make_scheduler(blocks=4, host_blocks=host_blocks, budget=64)
    old, new = make_sequence(0, 15, max_tokens=10), make_sequence(1, 15, max_tokens=10)
    scheduler.add(old)
    scheduler.add(new)
    while not scheduler.preemptions.total:
        run_step(scheduler)
    assert list(scheduler.waiting) == [new]
    assert new.is_swapped == bool(host_blocks)
    assert bool(new.computed) == bool(host_blocks)
    assert new.generated >= 1
    assert (scheduler.preemptions.swap > 0) == bool(host_blocks)
    run_all(scheduler)
    assert (old.generated, new.generated) == (10, 10)
    assert scheduler.tables.pool.num_used == scheduler.tables.host_pool.num_used == 0


def test_swap_falls_back_to_recomputation_where_host_memory_is_full():
    scheduler = make_scheduler(blocks=6, host_blocks=1, budget=64)
    for arrival in range(3):
        scheduler.add(make_sequence(arrival, 15, max_tokens=12))
    run_all(scheduler)
    assert scheduler.preemptions.recompute > 0


def test_swapped_sequences_come_back_in_order_before_those_that_never_ran():
    scheduler = make_scheduler(blocks=6, host_blocks=16, budget=64)
    for arrival in range(3):
        scheduler.add(make_sequence(arrival, 15, max_tokens=20))
    while scheduler.preemptions.swap < 2:
        run_step(scheduler)
    scheduler.add(make_sequence(3, 4, max_tokens=2))
    entered = []
    while scheduler.has_work:
        entered += [one.request.id for one in run_step(scheduler).sequences if one.request.id not in entered]
    assert entered == ["r0", "r1", "r2", "r3"]


def test_removal_in_any_state_frees_the_blocks():
    scheduler = make_scheduler(blocks=6, host_blocks=8, seqs=3, budget=64)
    sequences = [make_sequence(arrival, 15, max_tokens=20) for arrival in range(4)]
    for sequence in sequences:
        scheduler.add(sequence)
    while not scheduler.preemptions.swap:
        run_step(scheduler)
    assert {one.is_swapped for one in scheduler.waiting} == {True, False}
    for sequence in sequences:
        scheduler.remove(sequence)
    assert not scheduler.has_work
    assert scheduler.tables.pool.num_used == scheduler.tables.host_pool.num_used == 0


def test_a_cached_prefix_is_not_computed_again():
    scheduler = make_scheduler(prefix_caching=True, budget=64)
    prompt = list(range(3 * BLOCK))
    scheduler.add(make_sequence(0, prompt))
    run_all(scheduler)
    scheduler.add(make_sequence(1, [*prompt, 7, 7]))
    assert counts(run_step(scheduler)) == [(1, 2)]
    scheduler.add(make_sequence(2, prompt))
    assert counts(run_step(scheduler)) == [
        (1, 1),
        (2, BLOCK),
    ]  # the last token's block is computed, to have a successor
    assert (scheduler.tables.prefix_queries, scheduler.tables.prefix_hits) == (9 * BLOCK + 2, 5 * BLOCK)


def test_a_prefix_is_not_shared_across_salts():
    scheduler = make_scheduler(prefix_caching=True, budget=64)
    prompt = list(range(3 * BLOCK))
    for arrival, salt in enumerate(["one", "other", "other"]):
        scheduler.add(make_sequence(arrival, prompt, salt=salt))
        run_all(scheduler)
    assert scheduler.tables.prefix_hits == 2 * BLOCK


def test_who_needs_a_block_that_another_computes_lets_others_pass():
    scheduler = make_scheduler(prefix_caching=True, budget=2 * BLOCK)
    prompt = list(range(4 * BLOCK))
    for arrival in range(2):
        scheduler.add(make_sequence(arrival, [*prompt, 100 + arrival]))
    scheduler.add(make_sequence(2, 3))
    steps = [counts(run_step(scheduler)) for _ in range(4)]
    assert steps[0] == [(0, 2 * BLOCK)]
    assert steps[1] == [(0, 2 * BLOCK)]
    assert steps[2] == [(0, 1), (1, 1), (2, 3)]
    assert scheduler.tables.prefix_hits == 4 * BLOCK


def test_who_waits_for_another_computes_itself_once_that_one_is_gone():
    scheduler = make_scheduler(prefix_caching=True, budget=BLOCK)
    first, second = (make_sequence(arrival, [*range(4 * BLOCK), arrival]) for arrival in range(2))
    scheduler.add(first)
    scheduler.add(second)
    run_step(scheduler)
    assert list(scheduler.waiting) == [second]
    scheduler.remove(first)
    run_all(scheduler)
    assert second.generated == 4
    assert second.cached_tokens == BLOCK


def test_a_fork_shares_the_prompt_and_copies_before_it_writes():
    scheduler = make_scheduler(blocks=8)
    scheduler.add(make_sequence(0, 12, max_tokens=3, n=3))
    run_step(scheduler)
    assert len(scheduler.running) == 3
    assert scheduler.tables.pool.num_used == 2
    plan = run_step(scheduler).plan
    assert len(plan.moves) == 2  # the third writes where it is: nobody else holds the block by then
    assert scheduler.tables.pool.num_used == 4
    run_all(scheduler)
    assert scheduler.tables.pool.num_used == 0


def test_forks_wait_where_no_row_is_free():
    scheduler = make_scheduler(seqs=2)
    scheduler.add(make_sequence(0, 12, max_tokens=3, n=5))
    run_step(scheduler)
    assert (len(scheduler.running), len(scheduler.waiting)) == (2, 3)
    run_all(scheduler)


def test_held_sequences_give_way_where_nothing_else_can_run():
    """Beams that wait for each other must not hold all rows or blocks for ever."""
    scheduler = make_scheduler(blocks=4, seqs=2, budget=64)
    beams = [make_sequence(arrival, 12, max_tokens=9) for arrival in range(3)]
    for beam in beams:
        scheduler.add(beam)
    run_step(scheduler)
    assert list(scheduler.waiting) == [beams[2]]
    for beam in beams[:2]:
        scheduler.hold(beam)
    assert counts(run_step(scheduler)) == [(2, 12)]
    assert (beams[0].row, beams[1].row) == (0, None)
    for beam in beams[:2]:
        scheduler.resume(beam)
    assert list(scheduler.waiting) == [beams[1]]


def test_a_later_order_waits_even_where_it_would_fit():
    scheduler = make_scheduler(blocks=4, budget=64)
    scheduler.add(make_sequence(0, 20))
    run_step(scheduler)
    scheduler.add(make_sequence(1, 20))
    scheduler.add(make_sequence(2, 2))
    run_step(scheduler)
    assert [one.request.id for one in scheduler.waiting] == ["r1", "r2"]


def test_nobody_is_passed_by_more_than_its_aging_allows():
    """With order = arrival + priority * aging a request waits for those of higher priority alone that come within the
    aging, however many there are: the bound on its wait."""
    aging = 10.0
    scheduler = make_scheduler(seqs=1, budget=64)
    low = make_sequence(0, 4, max_tokens=2, order=0.0 + 1 * aging)
    scheduler.add(make_sequence(1, 4, max_tokens=2, order=0.0))
    scheduler.add(low)
    for now in range(1, 100):  # an endless stream of more urgent ones, one a step
        scheduler.add(make_sequence(1 + now, 4, max_tokens=2, order=float(now)))
        run_step(scheduler)
        if low.generated == 2:
            break
    assert low.generated == 2
    passed = sum(one.request.order[0] < aging for one in scheduler.waiting)
    assert passed == 0
    assert now <= 2 * (aging + 2)


def test_blocks_behind_the_window_are_free_while_the_sequence_runs():
    scheduler = make_scheduler(blocks=100, budget=2 * BLOCK, windows=(None, 3 * BLOCK, 3 * BLOCK))
    sequence = make_sequence(0, 10 * BLOCK, max_tokens=10 * BLOCK + 1)
    scheduler.add(sequence)
    while sequence.computed < 20 * BLOCK - 1:
        run_step(scheduler)
        full, *sliding = sequence.tables
        first = max(sequence.computed - 3 * BLOCK + 1, 0) // BLOCK
        assert (full.first, {table.first for table in sliding}) == (0, {first})
        # The window, and the step at hand; of the prompt all is held where there is no window.
        assert all(len(table.blocks) <= most_entries(3 * BLOCK, BLOCK, 20 * BLOCK, 2 * BLOCK) for table in sliding)
        assert full.end == max(-(-sequence.computed // BLOCK), 10)
        assert scheduler.tables.pool.num_used == sum(len(table.blocks) for table in sequence.tables)


def test_a_prefix_is_found_by_the_blocks_that_the_next_token_sees():
    windows = (None, 2 * BLOCK)
    scheduler = make_scheduler(blocks=40, budget=4 * BLOCK, prefix_caching=True, windows=windows)
    shared = list(range(10 * BLOCK))
    scheduler.add(make_sequence(0, [*shared, 1]))
    run_all(scheduler)
    again = make_sequence(1, [*shared, 2])
    scheduler.add(again)
    run_step(scheduler)
    assert again.cached_tokens == 10 * BLOCK
    assert [(table.first, table.end) for table in again.tables] == [(0, 11), (8, 11)]
    run_all(scheduler)
    # Others take the blocks that lay free the longest: those of the window in front of the prefix's end stay.
    pool = scheduler.tables.pool
    pool.release(pool.allocate(pool.num_blocks - 20))
    assert scheduler.tables._cached(make_sequence(2, [*shared, 3]))[0].end == 10


def test_a_prefix_ends_where_its_last_window_is_whole():
    scheduler = make_scheduler(blocks=40, prefix_caching=True, windows=(2 * BLOCK,), budget=100)
    tokens = list(range(10 * BLOCK + 1))
    first = make_sequence(0, tokens)
    scheduler.add(first)
    run_step(scheduler)
    tables, pool = scheduler.tables, scheduler.tables.pool
    assert [(table.first, table.end) for table in tables._cached(make_sequence(1, tokens))] == [(8, 10)]
    pool._forget(pool._block_of[first.block_hash(8, BLOCK)])
    # Blocks 6 and 7 are there, which is all that token 8 * BLOCK sees, whatever became of those before.
    pool._forget(pool._block_of[first.block_hash(1, BLOCK)])
    assert [(table.first, table.end) for table in tables._cached(make_sequence(1, tokens))] == [(6, 8)]
