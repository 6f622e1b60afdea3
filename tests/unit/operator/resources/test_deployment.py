"""The Deployment: how many pods, and how they are replaced."""

import pytest
from built import SETTINGS, built, service

from octavo_operator.resources import deployment
from octavo_operator.resources.replicas import Replicas


def test_replicas_are_left_to_the_autoscaler() -> None:
    assert built("Deployment")["spec"]["replicas"] == 1
    assert built("Deployment", replicas=0)["spec"]["replicas"] == 0
    assert "replicas" not in built("Deployment", autoscaling={"maxReplicas": 3})["spec"]


@pytest.mark.parametrize(
    ("strategy", "makes_room", "replicas", "unavailable", "surge"),
    [
        ("auto", False, Replicas(wanted=1), 0, 1),
        ("auto", False, Replicas(wanted=4), 0, 1),
        ("auto", True, Replicas(wanted=4), 1, 0),
        ("auto", True, Replicas(present=4), 1, 0),
        ("auto", True, Replicas(present=4, wanted=1), 0, 1),
        ("auto", True, Replicas(present=1), 0, 1),
        ("surge", True, Replicas(wanted=4), 0, 1),
        ("recreate", False, Replicas(wanted=1), 1, 0),
    ],
)
def test_rolling_update(strategy: str, makes_room: bool, replicas: Replicas, unavailable: int, surge: int) -> None:
    """One pod at a time; and under auto the only one never goes first."""
    chat = service(rollout={"strategy": strategy})
    update = deployment.build(chat, SETTINGS, replicas, makes_room=makes_room)["spec"]["strategy"]["rollingUpdate"]
    assert update == {"maxUnavailable": unavailable, "maxSurge": surge}
