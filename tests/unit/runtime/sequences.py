"""Sequences and block tables for tests of the pure logic, and what the engine does with a plan, model left out."""

from octavo_runtime.engine.kv_cache.block_pool import BlockPool
from octavo_runtime.engine.kv_cache.block_tables import BlockTables
from octavo_runtime.engine.request import Request, Sequence
from octavo_runtime.engine.scheduler import Schedule, Scheduler
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams

BLOCK = 8

Windows = tuple[int | None, ...]
"""Of the groups of a model's layers."""


def make_tables(
    blocks: int = 64,
    host_blocks: int = 0,
    *,
    prefix_caching: bool = False,
    windows: Windows = (None,),
    budget: int = 32,
    block_size: int = BLOCK,
) -> BlockTables:
    return BlockTables(
        BlockPool(blocks),
        BlockPool(host_blocks),
        block_size,
        prefix_caching=prefix_caching,
        windows=windows,
        step_tokens=budget,
    )


def make_scheduler(
    *,
    blocks: int = 64,
    host_blocks: int = 0,
    seqs: int = 8,
    budget: int = 32,
    prefix_caching: bool = False,
    windows: Windows = (None,),
    block_size: int = BLOCK,
) -> Scheduler:
    return Scheduler(
        make_tables(
            blocks,
            host_blocks,
            prefix_caching=prefix_caching,
            windows=windows,
            budget=budget,
            block_size=block_size,
        ),
        max_num_seqs=seqs,
        max_num_batched_tokens=budget,
        preemption_mode=lambda _: "swap" if host_blocks else "recompute",
    )


def make_sequence(
    arrival: int,
    prompt: int | list[int],
    max_tokens: int = 4,
    *,
    salt: str = "",
    order: float = 0.0,
    n: int = 1,
    params: SamplingParams | None = None,
    pooling: PoolingParams | None = None,
) -> Sequence:
    """A sequence whose prompt is given, or so many tokens that no other arrival's has."""
    tokens = [arrival * 10_000 + position for position in range(prompt)] if isinstance(prompt, int) else prompt
    request = Request(
        f"r{arrival}",
        len(tokens),
        params or SamplingParams(),
        (order, arrival),
        max_tokens,
        cache_salt=salt,
        pooling=pooling,
    )
    return Sequence(request, list(tokens), draws=[] if pooling else list(range(n)))


def run_step(scheduler: Scheduler) -> Schedule:
    """Plans, checks the plan, and does what the engine does with it: a token for each draw, and the end of those that
    have all of theirs."""
    schedule = scheduler.plan()
    scheduler.check_integrity()
    for sequence, item in zip(schedule.sequences, schedule.plan.slices, strict=True):
        assert item.row == sequence.row
        assert item.start == sequence.computed
        assert item.token_ids == sequence.tokens[item.start : item.start + len(item.token_ids)] != []
        size = scheduler.tables.block_size
        assert all(table.end * size >= item.start + len(item.token_ids) for table in sequence.tables)
        assert bool(item.draws) == (item.start + len(item.token_ids) == sequence.known)
    scheduler.commit(schedule)
    for sequence, item in zip(schedule.sequences, schedule.plan.slices, strict=True):
        grown = [sequence]
        for index in item.draws[1:]:
            child = sequence.fork(index)
            scheduler.fork(sequence, child)
            grown.append(child)
        if item.draws:
            sequence.draws = [sequence.index]
            for one in grown:
                one.tokens.append(1_000_000 + one.request.order[1] * 1000 + one.index)
                if one.generated >= one.request.max_tokens:
                    scheduler.remove(one)
    return schedule


def counts(schedule: Schedule) -> list[tuple[int, int]]:
    """(arrival, tokens) of each slice."""
    return [
        (sequence.request.order[1], len(item.token_ids))
        for sequence, item in zip(schedule.sequences, schedule.plan.slices, strict=True)
    ]
