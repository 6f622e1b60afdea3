"""Quantiles of a histogram, over what was counted between two scrapes."""

import math
from collections.abc import Mapping

Buckets = Mapping[float, float]  # upper bound (the last one is infinite) -> observations up to it


def increase(before: Buckets, after: Buckets) -> dict[float, float]:
    """What was counted in between. A counter that went back began anew, as of a server that was restarted."""
    began_anew = any(after.get(bound, 0.0) < count for bound, count in before.items())
    return {bound: count - (0.0 if began_anew else before.get(bound, 0.0)) for bound, count in after.items()}


def quantile(share: float, buckets: Buckets) -> float:
    """The value that `share` of the observations keep to, as PromQL's histogram_quantile has it: evenly spread within a
    bucket, and the last finite bound where it lies beyond. 0 where nothing was observed: nobody waits."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return 0.0
    rank, lower, below = share * total, 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below) if count > below else bound
        lower, below = bound, count
    return lower
