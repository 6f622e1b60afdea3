"""Quantiles over what was counted between two scrapes."""

import math

import pytest

from octavo_operator.scraping.histogram import increase, quantile

INF = math.inf


@pytest.mark.parametrize(
    ("share", "buckets", "value"),
    [
        (0.5, {1.0: 10, 2.0: 20, INF: 20}, 1.0),
        (0.75, {1.0: 10, 2.0: 20, INF: 20}, 1.5),
        (0.99, {1.0: 0, 2.0: 100, INF: 100}, 1.99),
        (0.99, {1.0: 0, 2.0: 50, INF: 100}, 2.0),  # beyond the last finite bound
        (0.99, {1.0: 0, 2.0: 0, INF: 0}, 0.0),  # no traffic
        (0.99, {}, 0.0),
    ],
)
def test_a_quantile_is_spread_evenly_within_its_bucket(share: float, buckets: dict[float, float], value: float) -> None:
    assert quantile(share, buckets) == pytest.approx(value)


def test_only_what_was_counted_in_between_counts() -> None:
    before, after = {1.0: 100.0, 2.0: 100.0, INF: 100.0}, {1.0: 100.0, 2.0: 104.0, INF: 104.0}
    assert increase(before, after) == {1.0: 0.0, 2.0: 4.0, INF: 4.0}
    assert 1.0 < quantile(0.99, increase(before, after)) <= 2.0


def test_a_counter_that_went_back_began_anew() -> None:
    assert increase({1.0: 50.0, INF: 60.0}, {1.0: 2.0, INF: 3.0}) == {1.0: 2.0, INF: 3.0}


def test_a_bucket_that_is_new_is_counted_whole() -> None:
    assert increase({}, {1.0: 2.0, INF: 3.0}) == {1.0: 2.0, INF: 3.0}
