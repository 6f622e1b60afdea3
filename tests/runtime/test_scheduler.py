"""The scheduler against a stand-in for the model: each sampling slice gets one token."""

from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_runtime.block_pool import BlockPool
from octavo_runtime.request import Request
from octavo_runtime.sampling_params import SamplingParams
from octavo_runtime.scheduler import Scheduler, Slice

BLOCK = 8


def make_scheduler(*, blocks: int = 64, seqs: int = 8, budget: int = 32) -> Scheduler:
    return Scheduler(BlockPool(blocks), block_size=BLOCK, max_num_seqs=seqs, max_num_batched_tokens=budget)


def make_request(arrival: int, prompt: int, max_tokens: int = 4) -> Request:
    return Request(f"r{arrival}", list(range(prompt)), SamplingParams(), arrival, max_tokens)


def run_step(scheduler: Scheduler) -> list[Slice]:
    """Plans, checks the plan, and does what the engine does with it."""
    slices = scheduler.plan()
    scheduler.check_integrity()
    sampled = [item for item in slices if item.samples]
    for item in slices:
        assert item.count > 0
        assert item.start == item.request.computed
        assert len(item.request.block_table) * BLOCK >= item.start + item.count
        item.request.computed += item.count
    for item in sampled:
        item.request.tokens.append(0)
        if item.request.generated >= item.request.max_tokens:
            scheduler.remove(item.request)
    return slices


def test_prompts_run_in_chunks_beside_decodes():
    scheduler = make_scheduler(budget=10)
    first = make_request(0, 4)
    scheduler.add(first)
    run_step(scheduler)
    scheduler.add(make_request(1, 25))
    counts = [[(item.request.arrival, item.count) for item in run_step(scheduler)] for _ in range(3)]
    assert counts == [[(0, 1), (1, 9)], [(0, 1), (1, 9)], [(0, 1), (1, 7)]]


def test_an_older_long_prompt_does_not_stall_decodes():
    scheduler = make_scheduler(budget=8, seqs=8)
    scheduler.add(make_request(0, 40))
    scheduler.add(make_request(1, 2, max_tokens=10))
    for _ in range(6):
        run_step(scheduler)
    younger = next(request for request in scheduler.running if request.arrival == 1)
    before = younger.generated
    scheduler.add(make_request(2, 60))
    run_step(scheduler)
    run_step(scheduler)
    assert younger.generated == before + 2


def test_at_most_max_num_seqs_run():
    scheduler = make_scheduler(seqs=2)
    for arrival in range(5):
        scheduler.add(make_request(arrival, 2))
    assert len(run_step(scheduler)) == 2
    assert [request.arrival for request in scheduler.waiting] == [2, 3, 4]


def test_the_newest_request_gives_way_and_loses_no_token():
    scheduler = make_scheduler(blocks=4, budget=64)
    old, new = make_request(0, 15, max_tokens=10), make_request(1, 15, max_tokens=10)
    scheduler.add(old)
    scheduler.add(new)
    while not scheduler.preemptions:
        run_step(scheduler)
    assert scheduler.waiting == [new]
    assert new.computed == 0
    assert new.generated >= 1
    while scheduler.has_work:
        run_step(scheduler)
    assert (old.generated, new.generated) == (10, 10)
    assert scheduler.pool.num_used == 0


def test_removal_in_any_state_frees_the_blocks():
    scheduler = make_scheduler(seqs=1)
    running, waiting = make_request(0, 20), make_request(1, 20)
    scheduler.add(running)
    scheduler.add(waiting)
    run_step(scheduler)
    scheduler.remove(waiting)
    scheduler.remove(running)
    assert not scheduler.has_work
    assert scheduler.pool.num_used == 0


@settings(max_examples=150, deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20), st.integers(0, 6)), min_size=1, max_size=20),
    blocks=st.integers(10, 30),
    seqs=st.integers(1, 6),
    budget=st.integers(6, 40),
    aborts=st.sets(st.integers(0, 19), max_size=4),
)
def test_every_request_ends_and_no_block_leaks(arrivals, blocks, seqs, budget, aborts):
    """Random arrivals and aborts in a tiny pool: the budget and row limits hold, blocks balance after every step, each
    request gets exactly its tokens, and the oldest one is never set back."""
    scheduler = make_scheduler(blocks=blocks, seqs=seqs, budget=budget)
    pending = [make_request(index, prompt, tokens) for index, (prompt, tokens, _) in enumerate(arrivals)]
    delays = [delay for _, _, delay in arrivals]
    everyone = list(pending)
    aborted = set()
    for step in count():
        assert step < 5000, "a request starves"
        if pending and (delays[pending[0].arrival] <= step or not scheduler.has_work):
            scheduler.add(pending.pop(0))
        alive = [*scheduler.running, *scheduler.waiting]
        oldest = min(alive, key=lambda request: request.arrival, default=None)
        progress = oldest.computed if oldest else 0
        slices = run_step(scheduler)
        assert sum(item.count for item in slices) <= budget
        assert len({item.request for item in slices}) == len(slices) <= seqs
        if oldest in scheduler.running:
            assert oldest.computed > progress
        for request in [*scheduler.running, *scheduler.waiting]:
            if request.arrival in aborts and step % 3 == 0:
                scheduler.remove(request)
                aborted.add(request)
        if not pending and not scheduler.has_work:
            break
    assert all(request.generated == request.max_tokens for request in everyone if request not in aborted)
    assert scheduler.pool.num_used == 0
