"""Ready and its reason through a service's life."""

from typing import Any

import pytest

from octavo_operator import api, conditions

BODY = {
    "metadata": {"namespace": "default", "name": "chat", "uid": "u1", "generation": 3},
    "spec": {"model": {"uri": "builtin://smollm2"}},
}


def deployment(wanted: int, existing: int, updated: int, ready: int, seen: int = 2, **status: Any) -> dict[str, Any]:
    counts = {"replicas": existing, "updatedReplicas": updated, "readyReplicas": ready, "observedGeneration": seen}
    return {"metadata": {"generation": 2}, "spec": {"replicas": wanted}, "status": counts | status}


def status(live: dict[str, Any] | None, pods: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return conditions.status(BODY, api.parse(BODY), None, live, pods or [], "2026-01-01T00:00:00Z")


REFUSAL = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}
UNPULLED: dict[str, Any] = {
    "metadata": {"name": "chat-2", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"containers": []},
    "status": {
        "containerStatuses": [
            {"name": "engine", "image": "x:1", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}}
        ]
    },
}
CASES = [
    ("nothing yet", None, [], "False", "Starting", "False"),
    ("first pod starts", deployment(1, 1, 1, 0), [], "False", "Starting", "False"),
    ("serves", deployment(1, 1, 1, 1), [], "True", "Serving", "True"),
    ("new template not yet seen", deployment(1, 1, 1, 1, seen=1), [], "False", "RollingOut", "True"),
    ("old pod still there", deployment(1, 2, 1, 1), [], "False", "RollingOut", "True"),
    ("scaling up", deployment(3, 3, 3, 1), [], "True", "Serving", "True"),
    ("scaled to zero", deployment(0, 0, 0, 0), [], "False", "ScaledToZero", "False"),
    ("new image is missing, old pod serves", deployment(1, 2, 1, 1), [UNPULLED], "False", "ImagePullBackOff", "True"),
    ("one of three is sick", deployment(3, 3, 3, 2), [UNPULLED], "True", "ImagePullBackOff", "True"),
    ("pods are refused", deployment(1, 0, 0, 0, conditions=[REFUSAL]), [], "False", "PodsRefused", "False"),
]


@pytest.mark.parametrize(
    ("live", "pods", "ready", "reason", "available"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_ready(live: Any, pods: list[dict[str, Any]], ready: str, reason: str, available: str) -> None:
    result = status(live, pods)
    found = conditions.of(result, "Ready")
    assert found is not None
    assert (found["status"], found["reason"]) == (ready, reason)
    assert conditions.of(result, "Available")["status"] == available  # type: ignore[index]
    assert all(item["observedGeneration"] == 3 for item in result["conditions"])


def test_status_holds_to_its_own_schema() -> None:
    result = status(deployment(1, 1, 1, 1))
    assert api.LLMServiceStatus.model_validate(result).model_dump(by_alias=True) == result


def test_times_change_with_the_status_alone() -> None:
    first = status(deployment(1, 1, 1, 0))
    second = conditions.status(
        BODY | {"status": first}, api.parse(BODY), None, deployment(1, 1, 1, 1), [], "2026-01-02T00:00:00Z"
    )
    times = {item["type"]: item["lastTransitionTime"][:10] for item in second["conditions"]}
    assert times == {
        "Valid": "2026-01-01",
        "Available": "2026-01-02",
        "Progressing": "2026-01-02",
        "Ready": "2026-01-02",
    }
