"""The Deployment: how many pods, and how they are replaced."""

from typing import Any

import pytest
from built import built


def test_replicas_are_left_to_the_autoscaler() -> None:
    assert built("Deployment")["spec"]["replicas"] == 1
    assert built("Deployment", replicas=0)["spec"]["replicas"] == 0
    assert "replicas" not in built("Deployment", autoscaling={"maxReplicas": 3})["spec"]


@pytest.mark.parametrize(
    ("spec", "unavailable", "surge"),
    [
        ({}, 0, 1),
        ({"replicas": 4}, 0, 1),
        ({"accelerator": {"type": "nvidia"}}, 0, 1),
        ({"accelerator": {"type": "nvidia"}, "replicas": 2}, 1, 0),
        ({"accelerator": {"type": "nvidia"}, "autoscaling": {"maxReplicas": 4}}, 0, 1),
        ({"accelerator": {"type": "nvidia"}, "autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, 1, 0),
    ],
)
def test_rolling_update(spec: dict[str, Any], unavailable: int, surge: int) -> None:
    update = built("Deployment", **spec)["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxUnavailable": unavailable, "maxSurge": surge}
