import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from octavo_runtime.engine.kv_cache.block_pool import BlockPool, IntegrityError, OutOfBlocks


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
    pool.hold(held[:1])
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
        pool.hold([0])


def test_integrity_check_sees_leaks_and_double_use():
    pool = BlockPool(2)
    held = pool.allocate(1)
    with pytest.raises(IntegrityError, match="1 references, in 0 tables"):
        pool.check_integrity([])
    with pytest.raises(IntegrityError, match="1 references, in 2 tables"):
        pool.check_integrity([held, held])


def test_a_released_block_is_found_by_its_content_until_it_is_taken():
    pool = BlockPool(3)
    held = pool.allocate(2)
    pool.publish(held[0], b"head")
    pool.publish(held[1], b"tail")
    pool.release(held)
    assert pool.find([b"head", b"tail", b"other"]) == held
    assert (pool.num_free, pool.num_cached) == (3, 2)
    pool.allocate(1)  # the blank one
    assert pool.find([b"head", b"tail"]) == held
    pool.allocate(1)  # the tail of the chain is forgotten before its head
    assert pool.find([b"head", b"tail"]) == held[:1]
    pool.hold(pool.find([b"head"]))
    with pytest.raises(OutOfBlocks):
        pool.allocate(1)


def test_the_content_released_longest_ago_is_forgotten_first():
    pool = BlockPool(3)
    for content in (b"a", b"b", b"c"):
        [block] = pool.allocate(1)
        pool.publish(block, content)
    for content in (b"b", b"a", b"c"):
        pool.release(pool.find([content]))
    pool.hold(pool.find([b"b"]))
    pool.release(pool.find([b"b"]))  # used again just now
    pool.allocate(2)
    assert pool.find([b"b"])
    assert not pool.find([b"a"])
    assert not pool.find([b"c"])


def test_the_first_block_of_a_content_stays_the_one_that_is_found():
    pool = BlockPool(2)
    first, second = pool.allocate(2)
    pool.publish(first, b"same")
    pool.publish(second, b"same")
    assert pool.find([b"same"]) == [first]
    pool.release([second])
    assert pool.num_cached == 0
    pool.check_integrity([[first]])


def test_only_held_blocks_are_published():
    with pytest.raises(IntegrityError, match="block 0 is published"):
        BlockPool(1).publish(0, b"x")


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
        self.pool.hold(table)
        self.tables.append(list(table))

    @precondition(lambda self: any(self.tables))
    @rule(data=st.data(), content=st.binary(min_size=1, max_size=1))
    def publish(self, data: st.DataObject, content: bytes) -> None:
        self.pool.publish(data.draw(st.sampled_from([block for table in self.tables for block in table])), content)

    @rule(contents=st.lists(st.binary(min_size=1, max_size=1), max_size=4))
    def hold_cached(self, contents: list[bytes]) -> None:
        found = self.pool.find(contents)
        free = self.pool.num_free
        new = self.pool.num_unheld(dict.fromkeys(found))
        self.pool.hold(found)
        assert self.pool.num_free == free - new
        self.tables.append(found)

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
