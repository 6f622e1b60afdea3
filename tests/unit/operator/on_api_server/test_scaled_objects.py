"""ScaledObjects, by KEDA's own definition of them. KEDA itself does not run."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from built import SETTINGS, service
from foreign import defined, definition
from live import Kubernetes

from octavo_operator import resources

pytestmark = pytest.mark.cluster

KEDA = "github.com/kedacore/keda/v2@v2.18.1"
DEFINITION = "config/crd/bases/keda.sh_scaledobjects.yaml"
EVERY_TARGET = {
    "gpuUtilization": 80, "p99Latency": "2s", "ttftP99": "500ms", "itlP99": "50ms", "queueDepth": 4,
    "runningRequests": 16, "kvCacheUsage": 75, "tokensPerSecond": 1000, "cpuUtilization": 60,
}  # fmt: skip
BEHAVIOR = {
    "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
    "scaleDown": {"selectPolicy": "Disabled"},
}


@pytest.fixture(scope="module", autouse=True)
def keda(kubernetes: Kubernetes) -> Iterator[None]:
    with defined(kubernetes, definition(KEDA, DEFINITION)):
        yield


def scaled(**autoscaling: Any) -> dict[str, Any]:
    said = service(autoscaling={"maxReplicas": 3, "provider": "keda"} | autoscaling)
    settings = SETTINGS.model_copy(update={"prometheus_url": "http://prometheus:9090"})
    return next(item for item in resources.build(said, settings) if item["kind"] == "ScaledObject")


def taken(kubernetes: Kubernetes, item: dict[str, Any]) -> str:
    """What the API server says of it, every field looked at, and nothing stored."""
    command = ("create", "--validate=strict", "--dry-run=server", "-f", "-")
    return kubernetes.kubectl(*command, document=json.dumps(item), check=False)


@pytest.mark.parametrize(
    "autoscaling", [{}, {"minReplicas": 2}, {"targets": EVERY_TARGET}, {"behavior": BEHAVIOR}], ids=str
)
def test_keda_knows_every_field(kubernetes: Kubernetes, autoscaling: dict[str, Any]) -> None:
    assert "scaledobject.keda.sh/chat created" in taken(kubernetes, scaled(**autoscaling))


def test_what_keda_does_not_know_would_be_found(kubernetes: Kubernetes) -> None:
    item = scaled()
    item["spec"]["scaleTargetReference"] = {}
    assert 'unknown field "spec.scaleTargetReference"' in taken(kubernetes, item)
    item = scaled()
    item["spec"]["triggers"][0]["metadata"]["value"] = 80
    assert "must be of type string" in taken(kubernetes, item)
