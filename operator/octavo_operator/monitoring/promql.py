"""The queries that rules and dashboards are made of. A service is told by the labels namespace and llmservice, which
scraping adds; series that were scraped in another way have no llmservice, and are left alone.

`pods`: a selector, such as `{namespace="default"}`; `by`: labels to tell apart, or none.
"""

from octavo_runtime.protocol.metrics import Metric

SERVICE = "namespace, llmservice"
EVERY_SERVICE = '{llmservice!=""}'


def rate(counter: Metric, pods: str = EVERY_SERVICE, window: str = "5m", by: str = SERVICE) -> str:
    """A counter's growth a second, summed up."""
    return f"sum by ({by}) (rate({counter.name}{pods}[{window}]))"


def count_rate(histogram: Metric) -> str:
    """How many observations a second, of every service."""
    return f"sum by ({SERVICE}) (rate({histogram.name}_count{EVERY_SERVICE}[5m]))"


def bucket_rate(histogram: Metric, pods: str = EVERY_SERVICE, window: str = "5m", by: str = SERVICE) -> str:
    """How many observations a second, by the bounds that they keep to."""
    labels = f"{by}, le" if by else "le"
    return f"sum by ({labels}) (rate({histogram.name}_bucket{pods}[{window}]))"


def quantile(share: float, histogram: Metric, pods: str = EVERY_SERVICE, window: str = "5m", by: str = SERVICE) -> str:
    """The bound that a share of the observations keeps to, in the histogram's unit."""
    return f"histogram_quantile({share}, {bucket_rate(histogram, pods, window, by)})"


def over(how: str, gauge: Metric, pods: str = EVERY_SERVICE, by: str = SERVICE) -> str:
    """A gauge over the pods; `how`: sum, avg, max."""
    return f"{how} by ({by}) ({gauge.name}{pods})"
