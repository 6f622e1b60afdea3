import pytest
from hypothesis import given
from hypothesis import strategies as st
from work import lines_run

from octavo_runtime.engine.ordered_queue import OrderedQueue


@given(st.lists(st.tuples(st.sampled_from(["add", "pop", "remove"]), st.integers(0, 200), st.integers(0, 5))))
def test_it_is_a_sorted_list_whatever_comes_and_goes(moves):
    queue: OrderedQueue[int] = OrderedQueue()
    expected: list[tuple[int, int, int]] = []  # key, when it came, item
    for came, (move, item, key) in enumerate(moves):
        present = [one for one in expected if one[2] == item]
        if move == "add" and not present:
            queue.add(key, item)
            expected = sorted([*expected, (key, came, item)])
        elif move == "pop" and expected:
            assert queue.first() == (expected[0][0], expected[0][2])
            assert queue.pop() == expected.pop(0)[2]
        elif move == "remove" and present:
            queue.remove(item)
            expected.remove(present[0])
        assert list(queue) == [one[2] for one in expected]
        assert len(queue) == len(expected)
        assert (item in queue) == any(one[2] == item for one in expected)


def test_what_is_not_there_cannot_be_taken():
    queue: OrderedQueue[str] = OrderedQueue()
    queue.add(1, "a")
    queue.remove("a")
    with pytest.raises(KeyError):
        queue.remove("a")
    with pytest.raises(IndexError):
        queue.pop()


def test_what_is_removed_is_let_go():
    """Clients that come and go before their turn must not pile up behind one that stays."""
    queue: OrderedQueue[int] = OrderedQueue()
    queue.add(-1, -1)
    for item in range(10_000):
        queue.add(item, item)
        queue.remove(item)
    assert len(queue._heap) < 200


def test_the_cost_of_one_move_does_not_grow_with_the_queue():
    def cost(length: int) -> int:
        queue: OrderedQueue[int] = OrderedQueue()
        for item in range(length):
            queue.add(item, item)
        return lines_run(lambda: (queue.add(-1, -1), queue.first(), queue.remove(length // 2), queue.pop()))

    assert cost(10_000) == cost(100)
