import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from octavo_runtime.block_pool import BlockPool, IntegrityError, OutOfBlocks


def test_allocate_takes_all_or_nothing():
    pool = BlockPool(4)
    held = pool.allocate(3)
    with pytest.raises(OutOfBlocks, match="2 blocks asked for, 1 of 4 free"):
        pool.allocate(2)
    assert pool.num_used == 3
    pool.check_integrity([held])


def test_shared_blocks_are_free_only_after_the_last_holder():
    pool = BlockPool(2)
    held = pool.allocate(2)
    pool.share(held[:1])
    pool.release(held)
    assert pool.num_free == 1
    pool.check_integrity([held[:1]])
    pool.release(held[:1])
    assert pool.num_free == 2


def test_release_of_a_free_block_is_refused():
    pool = BlockPool(1)
    with pytest.raises(IntegrityError, match="block 0 is released"):
        pool.release([0])
    with pytest.raises(IntegrityError, match="block 0 is shared"):
        pool.share([0])


def test_integrity_check_sees_leaks_and_double_use():
    pool = BlockPool(2)
    held = pool.allocate(1)
    with pytest.raises(IntegrityError, match="1 references, in 0 tables"):
        pool.check_integrity([])
    with pytest.raises(IntegrityError, match="1 references, in 2 tables"):
        pool.check_integrity([held, held])


class PoolMachine(RuleBasedStateMachine):
    """Random allocations, shares and releases against a list of block tables."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(12)
        self.tables: list[list[int]] = []

    @rule(count=st.integers(0, 14))
    def allocate(self, count: int) -> None:
        free = self.pool.num_free
        if count > free:
            with pytest.raises(OutOfBlocks):
                self.pool.allocate(count)
        else:
            self.tables.append(self.pool.allocate(count))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables))
        self.pool.share(table)
        self.tables.append(list(table))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.tables) - 1))
        self.pool.release(self.tables.pop(index))

    @invariant()
    def books_balance(self) -> None:
        self.pool.check_integrity(self.tables)
        assert self.pool.num_used == len({block for table in self.tables for block in table})


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
