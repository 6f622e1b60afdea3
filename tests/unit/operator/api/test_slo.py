"""spec.slo, and what it asks of the autoscaler."""

import pytest
from built import service

from octavo_operator.api import slo
from octavo_runtime.protocol.metrics import METRICS


def test_an_objective_is_the_target_of_an_autoscaler_that_has_none() -> None:
    scaled = service(autoscaling={"maxReplicas": 3}, slo={"ttftP99": "500ms", "itlP99": "50ms"})
    assert scaled.spec.autoscaling is not None
    targets = scaled.spec.autoscaling.targets.model_dump(exclude_none=True)
    assert targets == {"ttft_p99": "500ms", "itl_p99": "50ms"}


def test_a_target_that_is_given_wins() -> None:
    given = {"maxReplicas": 3, "targets": {"ttftP99": "300ms", "queueDepth": 4}}
    scaled = service(autoscaling=given, slo={"ttftP99": "500ms", "itlP99": "50ms", "availability": "99.9%"})
    assert scaled.spec.autoscaling is not None
    targets = scaled.spec.autoscaling.targets.model_dump(exclude_none=True)
    assert targets == {"ttft_p99": "300ms", "itl_p99": "50ms", "queue_depth": 4}


def test_an_objective_alone_scales_nothing() -> None:
    assert service(slo={"ttftP99": "500ms"}).spec.autoscaling is None


@pytest.mark.parametrize("field", slo.HISTOGRAMS)
def test_every_bound_of_the_buckets_may_be_promised(field: str) -> None:
    metric = slo.HISTOGRAMS[field]
    assert metric in METRICS
    enum = slo.SLOSpec.model_json_schema()["properties"][{"ttft_p99": "ttftP99", "itl_p99": "itlP99"}[field]]["enum"]
    assert [slo.bound(slo.SLOSpec.model_validate({field: text}), field) for text in enum] == list(metric.buckets)


def test_availability_is_a_ratio() -> None:
    assert slo.ratio(service(slo={"availability": "99.95%"}).spec.slo) == pytest.approx(0.9995)
    assert slo.ratio(service().spec.slo) is None
