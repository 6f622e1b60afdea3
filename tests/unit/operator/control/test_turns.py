"""Who has a turn, and who waits."""

import asyncio

from fake_cluster import turns
from hypothesis import given
from hypothesis import strategies as st

from octavo_operator.api import Key


def key(number: int) -> Key:
    return "default", f"s{number}"


@given(st.integers(0, 3), st.lists(st.tuples(st.sampled_from(["take", "leave"]), st.integers(0, 5))))
def test_never_more_at_once_and_nobody_is_forgotten(at_once: int, steps: list[tuple[str, int]]) -> None:
    woken: list[str] = []
    given_out = turns(woken, at_once)
    rolling: set[int] = set()
    for what, number in steps:
        if what == "leave":
            given_out.leave(key(number))
            rolling.discard(number)
        elif asyncio.run(given_out.take(key(number))):
            rolling.add(number)
        assert len(rolling) <= at_once
    # Whoever asks gets a turn in the end, if only those that have one leave: it is woken, and asks again.
    waiting = set()
    for number in range(6):
        (rolling if asyncio.run(given_out.take(key(number))) else waiting).add(number)
    while at_once and waiting:
        woken.clear()
        leaving = rolling.pop()
        given_out.leave(key(leaving))
        for number in {int(name[1:]) for name in woken}:
            assert asyncio.run(given_out.take(key(number)))
            rolling.add(number)
            waiting.remove(number)


def test_what_was_under_way_at_the_start_has_its_turn() -> None:
    given_out = turns([], 1, under_way=[key(1)])
    assert not asyncio.run(given_out.take(key(2)))
    assert asyncio.run(given_out.take(key(1)))


def test_a_namespace_that_is_lost_keeps_no_turn() -> None:
    woken: list[str] = []
    given_out = turns(woken, 1, under_way=[("gone", "a")])
    assert not asyncio.run(given_out.take(key(1)))
    given_out.forget("gone")
    assert woken == ["s1"]
    assert asyncio.run(given_out.take(key(1)))


def test_none_has_a_turn_where_the_chart_says_so() -> None:
    given_out = turns([], 0)
    assert not asyncio.run(given_out.take(key(1)))
    assert given_out.words() == "none has a turn, since rollouts.atOnce of the chart is 0"
