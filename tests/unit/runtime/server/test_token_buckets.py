"""Token buckets and accounts: never more than the limit, never a caller that waits for ever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo_runtime.server.access.limits import Account, Bucket, Limits

GAPS = st.lists(st.floats(0, 90, allow_nan=False), min_size=1, max_size=80)


@given(size=st.integers(1, 50), gaps=GAPS)
def test_a_window_holds_at_most_the_bucket_and_what_flows_in(size, gaps):
    account, now, admitted = Account(Limits(requests_per_minute=size)), 0.0, []
    for gap in gaps:
        now += gap
        if account.admit(now) is None:
            admitted.append(now)
            account.release()
    for start in admitted:
        in_a_minute = [at for at in admitted if start <= at < start + 60]
        assert len(in_a_minute) <= 2 * size + 1


@given(size=st.integers(1, 1000), gaps=GAPS, amounts=st.lists(st.integers(0, 5000), min_size=80, max_size=80))
def test_a_bucket_is_never_over_full_and_refills_in_a_minute(size, gaps, amounts):
    bucket, now = Bucket(size), 0.0
    for gap, amount in zip(gaps, amounts, strict=False):
        now += gap
        before = bucket.level(now)
        bucket.take(amount, now)
        assert bucket.level(now) == pytest.approx(before - amount)
        standing = bucket.standing(now)
        assert 0 <= standing.remaining <= size
        assert bucket.level(now + standing.reset) == pytest.approx(size)
    assert bucket.level(now + 60 * (1 + 5000 * 80 / size)) == size


@given(
    limits=st.builds(
        Limits, st.none() | st.integers(1, 20), st.none() | st.integers(1, 2000), st.none() | st.integers(1, 5)
    ),
    steps=st.lists(st.tuples(st.floats(0, 30, allow_nan=False), st.integers(0, 3000), st.booleans()), max_size=60),
)
@settings(max_examples=200)
def test_who_waits_as_told_is_let_in(limits, steps):
    account, now, running = Account(limits), 0.0, 0
    for gap, tokens, ends in steps:
        now += gap
        refusal = account.admit(now)
        if refusal is None:
            running += 1
            account.charge(tokens, now)
        else:
            assert refusal.bound == getattr(limits, refusal.limit)
            assert refusal.retry_after >= 1
            if refusal.limit != "max_concurrent_requests":
                now += refusal.retry_after
                second = account.admit(now)
                # Another of the limits may hold it up then, but not the same one again.
                assert second is None or second.limit != refusal.limit
                running += second is None
        if ends and running:
            account.release()
            running -= 1
        assert account.running == running
        assert limits.max_concurrent_requests is None or running <= limits.max_concurrent_requests


def test_an_overdraft_is_paid_off_first():
    account = Account(Limits(tokens_per_minute=60))
    assert account.admit(0) is None
    account.charge(120, 0)
    refusal = account.admit(1)
    assert refusal is not None
    assert (refusal.limit, refusal.bound, refusal.retry_after) == ("tokens_per_minute", 60, 60)
    assert account.standing(1)["tokens"].remaining == 0
    assert account.admit(60) is not None
    assert account.admit(61) is None


def test_a_refused_request_costs_nothing():
    account = Account(Limits(requests_per_minute=1))
    assert account.admit(0) is None
    for second in range(1, 60):
        assert account.admit(second) is not None
    assert account.admit(60) is None


def test_new_limits_keep_what_was_asked_for():
    account = Account(Limits(requests_per_minute=10))
    for _ in range(9):
        assert account.admit(0) is None
    account.limit(Limits(requests_per_minute=9, max_concurrent_requests=20))
    refusal = account.admit(0)
    assert refusal is not None
    assert refusal.limit == "requests_per_minute"
    account.limit(Limits(requests_per_minute=20, max_concurrent_requests=20))
    assert account.standing(0)["requests"].remaining == 11
    account.limit(Limits(max_concurrent_requests=9))
    refusal = account.admit(0)
    assert refusal is not None
    assert refusal.limit == "max_concurrent_requests"
    assert account.standing(0) == {}


def test_limits_of_a_key_go_over_those_of_the_server():
    assert Limits(5, None, None).over(Limits(10, 20, None)) == Limits(5, 20, None)
