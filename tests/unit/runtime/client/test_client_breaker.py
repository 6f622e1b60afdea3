"""The circuit breaker, on a clock of the test's own."""

from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_runtime.client.breaker import Breaker


def broken(failures: int = 3, seconds: float = 10.0) -> Breaker:
    """A breaker that opened at the time 0."""
    breaker = Breaker(failures, seconds)
    for _ in range(failures):
        breaker.started(0.0)
        breaker.failed(0.0)
    return breaker


def test_failures_in_a_row_open_it():
    breaker = Breaker(3, 10.0)
    for failed in (True, True, False, True, True):
        breaker.started(0.0)
        breaker.failed(0.0) if failed else breaker.succeeded()
    assert breaker.state(0.0) == "closed", "a success in between starts the count anew"
    breaker.failed(1.0)
    assert breaker.state(1.0) == "open"
    assert not breaker.admits(10.9)


def test_one_request_tries_a_half_open_circuit():
    breaker = broken()
    assert breaker.state(10.0) == "half-open"
    assert breaker.admits(10.0)
    breaker.started(10.0)
    assert not breaker.admits(10.0)


def test_the_try_closes_or_opens_it():
    breaker = broken()
    breaker.started(10.0)
    breaker.failed(12.0)
    assert breaker.state(21.9) == "open"
    assert breaker.state(22.0) == "half-open"
    breaker.started(22.0)
    breaker.succeeded()
    assert breaker.state(22.0) == "closed"


def test_a_try_that_is_cancelled_lets_another_in():
    breaker = broken()
    breaker.started(10.0)
    breaker.left()
    assert breaker.admits(10.0)


def test_late_failures_do_not_keep_it_open():
    breaker = broken()
    breaker.failed(9.0)
    assert breaker.state(10.0) == "half-open"


EVENTS = st.lists(st.tuples(st.sampled_from(["start", "succeed", "fail", "leave"]), st.floats(0, 20)), max_size=60)


@settings(deadline=None)
@given(EVENTS, st.integers(1, 5), st.floats(0.1, 30))
def test_it_always_admits_again_once_its_time_is_over_and_nothing_is_under_way(events, failures, seconds):
    breaker, now, running, in_a_row = Breaker(failures, seconds), 0.0, 0, 0
    for kind, passed in events:
        now += passed
        if kind == "start":
            if breaker.admits(now):
                breaker.started(now)
                running += 1
        elif running:
            running -= 1
            in_a_row = {"succeed": 0, "fail": in_a_row + 1, "leave": in_a_row}[kind]
            {"succeed": breaker.succeeded, "fail": partial(breaker.failed, now), "leave": breaker.left}[kind]()
        if in_a_row == 0:
            assert breaker.state(now) == "closed"
        if breaker.state(now) == "closed":
            assert breaker.admits(now)
    while running:
        running -= 1
        breaker.left()
    assert breaker.admits(now + seconds)
