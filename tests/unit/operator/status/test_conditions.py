"""Ready and its reason through a service's life."""

from typing import Any

import pytest

from octavo_operator import api
from octavo_operator.resources.leader_worker_set import TEMPLATE, WORKER_INDEX
from octavo_operator.sizing import Verdict
from octavo_operator.status import conditions
from octavo_operator.status.condition import condition_of
from octavo_operator.status.observation import Observation, Sized

BODY = {
    "metadata": {"namespace": "default", "name": "chat", "uid": "u1", "generation": 3},
    "spec": {"model": {"uri": "builtin://smollm2"}},
}


def deployment(wanted: int, existing: int, updated: int, ready: int, seen: int = 2, **status: Any) -> dict[str, Any]:
    counts = {"replicas": existing, "updatedReplicas": updated, "readyReplicas": ready, "observedGeneration": seen}
    return {
        "kind": "Deployment",
        "metadata": {"generation": 2},
        "spec": {"replicas": wanted},
        "status": counts | status,
    }


def seen(body: dict[str, Any], *objects: dict[str, Any] | None, **more: Any) -> Observation:
    """A service and what there is of its own."""
    found: dict[tuple[str, str], dict[str, Any] | None] = {}
    for live in objects:
        if live is not None:
            owned = live["metadata"] | {"name": "chat", "ownerReferences": [{"uid": "u1"}]}
            found[live["kind"], "chat"] = live | {"metadata": owned}
    return Observation(body, api.parse(body), found, **more)


def status(live: dict[str, Any] | None, pods: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return conditions.status(seen(BODY, live, pods=pods or []), None, "2026-01-01T00:00:00Z")


def groups(wanted: int, existing: int, updated: int, ready: int) -> dict[str, Any]:
    """A LeaderWorkerSet of the template `new`."""
    leader = {"metadata": {"annotations": {TEMPLATE: "new"}}}
    return {
        "kind": "LeaderWorkerSet",
        "metadata": {"generation": 2},
        "spec": {
            "replicas": wanted,
            "leaderWorkerTemplate": {"size": 1, "leaderTemplate": leader},
            "rolloutStrategy": {"rollingUpdateConfiguration": {"maxSurge": 1}},
        },
        "status": {"replicas": existing, "updatedReplicas": updated, "readyReplicas": ready, "conditions": []},
    }


TWO_NODES = {
    "leaderWorkerTemplate": {"size": 2, "leaderTemplate": {"metadata": {"annotations": {TEMPLATE: "new"}}}},
}


def member(template: str, index: int = 0) -> dict[str, Any]:
    """A ready pod of a group."""
    labels = {WORKER_INDEX: str(index)}
    metadata = {"name": f"chat-0-{index}", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": metadata | ({"annotations": {TEMPLATE: template}} if index == 0 else {}),
        "spec": {"containers": []},
        "status": {"conditions": ready},
    }


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
    ("scaled to zero", deployment(0, 0, 0, 0), [], "True", "ScaledToZero", "False"),
    ("new image is missing, old pod serves", deployment(1, 2, 1, 1), [UNPULLED], "False", "ImagePullBackOff", "True"),
    ("one of three is sick", deployment(3, 3, 3, 2), [UNPULLED], "True", "ImagePullBackOff", "True"),
    ("a group serves", groups(1, 1, 1, 1), [member("new"), member("new", 1)], "True", "Serving", "True"),
    ("status is of a former template", groups(1, 1, 1, 1), [member("old")], "False", "RollingOut", "True"),
    ("one of two groups is new", groups(2, 2, 1, 2), [member("old"), member("new")], "False", "RollingOut", "True"),
    ("a group loads", groups(1, 1, 1, 0), [], "False", "Starting", "False"),
    ("nothing said of groups yet", groups(1, 0, 0, 0) | {"status": {}}, [], "False", "Starting", "False"),
    ("pods are refused", deployment(1, 0, 0, 0, conditions=[REFUSAL]), [], "False", "PodsRefused", "False"),
]


@pytest.mark.parametrize(
    ("live", "pods", "ready", "reason", "available"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_ready(live: Any, pods: list[dict[str, Any]], ready: str, reason: str, available: str) -> None:
    result = status(live, pods)
    found = condition_of(result, "Ready")
    assert found is not None
    assert (found["status"], found["reason"]) == (ready, reason)
    assert condition_of(result, "Available")["status"] == available  # type: ignore[index]
    assert all(item["observedGeneration"] == 3 for item in result["conditions"])


@pytest.mark.parametrize(
    ("live", "ready", "progressing"),
    [
        (deployment(0, 2, 2, 2, seen=1), ("False", "RollingOut"), ("True", "RollingOut")),
        (deployment(0, 1, 1, 1), ("True", "Serving"), ("True", "Scaling")),
        (deployment(0, 0, 0, 0), ("True", "Suspended"), ("False", "Suspended")),
    ],
    ids=["not yet seen", "a pod still drains", "no pod is left"],
)
def test_a_suspended_service_is_settled_once_no_pod_is_left(
    live: dict[str, Any], ready: tuple[str, str], progressing: tuple[str, str]
) -> None:
    body = BODY | {"spec": {"model": {"uri": "builtin://smollm2"}, "suspend": True, "autoscaling": {"maxReplicas": 3}}}
    result = conditions.status(seen(body, live), None, "2026-01-01T00:00:00Z")
    told = {item["type"]: (item["status"], item["reason"]) for item in result["conditions"]}
    assert (told["Ready"], told["Progressing"]) == (ready, progressing)
    assert "Stalled" not in told


def route(type_: str, status: str, **more: Any) -> dict[str, Any]:
    """What a Gateway's controller says of an HTTPRoute."""
    said = {"type": type_, "status": status, "reason": "NotAllowedByListeners", "message": "not from here"} | more
    return UNSEEN | {"status": {"parents": [{"conditions": [said]}]}}


INGRESS = {"kind": "Ingress", "metadata": {}, "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.7"}]}}}
UNSEEN = {"kind": "HTTPRoute", "metadata": {"generation": 2}}
ACCEPTED = route("Accepted", "True", observedGeneration=2)
OUTDATED = route("Accepted", "True", observedGeneration=1)


@pytest.mark.parametrize(
    ("endpoint", "standing", "routed", "ready"),
    [
        (["ingress"], [], ("Unknown", "RoutePending"), "Serving"),
        (["ingress"], [INGRESS], ("True", "RouteAccepted"), "Serving"),
        (["gateway"], [UNSEEN], ("Unknown", "RoutePending"), "Serving"),
        (["gateway"], [ACCEPTED], ("True", "RouteAccepted"), "Serving"),
        (["gateway"], [OUTDATED], ("Unknown", "RoutePending"), "Serving"),
        (["gateway"], [route("Accepted", "False")], ("False", "RouteRefused"), "RouteRefused"),
        (["gateway"], [route("ResolvedRefs", "False")], ("False", "RouteRefused"), "RouteRefused"),
        (["gateway", "ingress"], [ACCEPTED], ("Unknown", "RoutePending"), "Serving"),
        (["gateway", "ingress"], [ACCEPTED, INGRESS], ("True", "RouteAccepted"), "Serving"),
    ],
)
def test_whether_somebody_serves_the_routes(
    endpoint: list[str], standing: list[dict[str, Any]], routed: tuple[str, str], ready: str
) -> None:
    ways = {"ingress": {"host": "a.example.com"}, "gateway": {"name": "public", "hostname": "b.example.com"}}
    body = BODY | {"spec": BODY["spec"] | {"endpoint": {way: ways[way] for way in endpoint}}}
    result = conditions.status(seen(body, deployment(1, 1, 1, 1), *standing), None, "2026-01-01T00:00:00Z")
    told = {item["type"]: item for item in result["conditions"]}
    assert (told["Routed"]["status"], told["Routed"]["reason"]) == routed
    assert (told["Ready"]["status"], told["Ready"]["reason"]) == ("True", ready)
    assert ("not from here" in told["Ready"]["message"]) is (ready == "RouteRefused")


def test_a_service_without_routes_says_nothing_of_them() -> None:
    assert condition_of(status(deployment(1, 1, 1, 1)), "Routed") is None


def test_status_holds_to_its_own_schema() -> None:
    result = status(deployment(1, 1, 1, 1))
    assert api.LLMServiceStatus.model_validate(result).model_dump(by_alias=True, exclude_none=True) == result


def test_times_change_with_the_status_alone() -> None:
    first = status(deployment(1, 1, 1, 0))
    later = seen(BODY | {"status": first}, deployment(1, 1, 1, 1))
    second = conditions.status(later, None, "2026-01-02T00:00:00Z")
    times = {item["type"]: item["lastTransitionTime"][:10] for item in second["conditions"]}
    assert times == {
        "Valid": "2026-01-01",
        "Available": "2026-01-02",
        "Progressing": "2026-01-02",
        "Ready": "2026-01-02",
    }


def test_whether_a_pod_has_answered_yet_is_kept() -> None:
    """By whether the first pods are on their way, an alert tells a start from an outage."""
    lost, starts, serves = deployment(1, 1, 1, 0), "NoPodReadyYet", "PodReady"
    life: list[tuple[dict[str, Any] | None, list[dict[str, Any]], str, bool]] = [
        (None, [], starts, True),
        (lost, [], starts, True),
        (lost, [UNPULLED], starts, False),
        (deployment(1, 1, 1, 1), [], serves, False),
        (lost, [], "NoPodReady", False),
        (None, [], "NoPodReady", False),
        (deployment(0, 0, 0, 0), [], "NoPodWanted", False),
        (lost, [], starts, True),
        (deployment(1, 1, 1, 1), [], serves, False),
        (deployment(0, 1, 1, 0), [], "NoPodReady", False),
    ]
    body = BODY
    for live, pods, reason, is_first in life:
        said = conditions.status(seen(body, live, pods=pods), None, "2026-01-01T00:00:00Z")
        body = BODY | {"status": said}
        available = condition_of(said, "Available")
        assert available is not None
        assert (available["reason"], conditions.is_first_start(said)) == (reason, is_first)


def ready(result: dict[str, Any]) -> tuple[str, str, str]:
    found = condition_of(result, "Ready")
    assert found is not None
    return found["status"], found["reason"], found["message"]


def test_what_merely_stands_still_is_told_after_its_time() -> None:
    unseen = {"metadata": {"name": "chat-2", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}, "status": {}}
    leader = member("new")
    overdue = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    cases: list[tuple[dict[str, Any], list[dict[str, Any]], str]] = [
        (deployment(1, 1, 1, 0), [unseen], "NotScheduled"),
        (deployment(1, 2, 1, 1), [unseen], "NotScheduled"),
        (deployment(2, 2, 1, 1, conditions=[overdue]), [], "ProgressDeadlineExceeded"),
        (groups(1, 1, 1, 0) | {"spec": groups(1, 1, 1, 0)["spec"] | TWO_NODES}, [leader], "GroupIncomplete"),
    ]
    for live, pods, reason in cases:
        told = ready(conditions.status(seen(BODY, live, pods=pods), None, "2026-01-01T00:05:01Z"))
        assert told[:2] == ("False", reason)
    live, pods, _ = cases[0]
    soon = ready(conditions.status(seen(BODY, live, pods=pods), None, "2026-01-01T00:05:00Z"))
    assert soon[:2] == ("False", "Starting")
    answers = conditions.status(seen(BODY, deployment(1, 1, 1, 1, conditions=[overdue])), None, "2026-01-01T00:05:01Z")
    assert ready(answers)[:2] == ("True", "Serving")


def test_how_long_a_model_may_load_goes_by_its_weights() -> None:
    running = {
        "name": "engine",
        "image": "x",
        "started": True,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }
    loading = {
        "metadata": {"name": "chat-2", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "node-0", "containers": [{"name": "engine"}]},
        "status": {"phase": "Running", "containerStatuses": [running]},
    }
    for weights, reason in ((16_000_000_000, "PodNotReady"), (150_000_000_000, "Starting")):
        sized = Sized(Verdict(True, "Fits", ""), memory={"weights": weights})
        found = seen(BODY, deployment(1, 1, 1, 0), pods=[loading], sized=sized)
        assert ready(conditions.status(found, None, "2026-01-01T00:40:00Z"))[1] == reason


def test_why_a_rollout_stands_still_is_told_while_the_old_pod_answers() -> None:
    status_, reason, message = ready(status(deployment(1, 1, 0, 1, conditions=[REFUSAL])))
    assert (status_, reason) == ("False", "PodsRefused")
    assert message == (
        "1 of 1 replicas answer, some of them by the former spec; the API server refuses pods: exceeded quota: pods; "
        "raise the quota; or set spec.rollout.strategy: recreate, and the old pod makes room for it, and does not "
        "answer meanwhile"
    )


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("failed quota: q: must specify limits.cpu for: engine", "a LimitRange of the namespace"),
        ("maximum memory usage per Container is 1Gi, but limit is 1536Mi", "ask for less in spec.resources"),
        ("minimum cpu usage per Container is 1, but request is 500m", "ask for more in spec.resources"),
    ],
)
def test_what_a_quota_or_a_limit_range_asks_for_is_told_with_the_way_there(said: str, remedy: str) -> None:
    message = ready(status(deployment(1, 0, 0, 0, conditions=[REFUSAL | {"message": said}])))[2]
    assert f"the API server refuses pods: {said}; " in message
    assert remedy in message


@pytest.mark.parametrize(
    ("said", "existing", "surge"),
    [("violates PodSecurity", 1, 1), ("exceeded quota: pods", 0, 1), ("exceeded quota: pods", 1, 0)],
    ids=["no quota", "no old pod", "the old pod goes first already"],
)
def test_a_refusal_that_an_old_pod_s_end_does_not_help_has_no_such_advice(said: str, existing: int, surge: int) -> None:
    live = deployment(1, existing, 0, existing, conditions=[REFUSAL | {"message": said}])
    live["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": surge}}
    _, reason, message = ready(status(live))
    assert (reason, "recreate" in message) == ("PodsRefused", False)


@pytest.mark.parametrize(
    ("missing", "helps"),
    [("1 Insufficient nvidia.com/gpu", True), ("1 node(s) didn't match Pod's node affinity/selector", False)],
)
def test_a_rollout_without_a_spare_device_is_shown_the_way_where_it_helps(missing: str, helps: bool) -> None:
    unscheduled = {
        "metadata": {"name": "chat-2", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": missing}]},
    }
    said = ready(status(deployment(1, 2, 1, 1), [unscheduled]))[2]
    assert ("spec.rollout.strategy: recreate" in said) == helps
    assert "spec.rollout.strategy" not in ready(status(deployment(1, 1, 1, 0), [unscheduled]))[2]


@pytest.mark.parametrize(("surge", "words"), [(1, "a new pod is ready before"), (0, "an old pod ends first")])
def test_how_pods_are_replaced_is_told(surge: int, words: str) -> None:
    live = deployment(2, 3, 1, 2)
    live["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": surge}}
    progressing = condition_of(status(live), "Progressing")
    assert progressing is not None
    assert words in progressing["message"]
    assert "rollout.strategy auto, 2 replicas" in progressing["message"]


def hpa(since: str, **condition: Any) -> dict[str, Any]:
    failed = {"type": "ScalingActive", "status": "False", "reason": "F", "message": "missing request for cpu"}
    return {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "chat"}} | {
        "status": {"conditions": [failed | {"lastTransitionTime": since} | condition]}
    }


@pytest.mark.parametrize(
    ("autoscaler", "reason"),
    [
        (hpa("2026-01-01T00:00:00Z"), "AutoscalingFailed"),
        (hpa("2026-01-01T00:09:30Z"), "Serving"),
        (hpa("2026-01-01T00:00:00Z", status="True"), "Serving"),
        (hpa("2026-01-01T00:00:00Z", type="ScalingLimited"), "Serving"),
    ],
)
def test_an_autoscaler_that_cannot_work_is_told_once_it_has_had_its_time(autoscaler: Any, reason: str) -> None:
    looked = seen(BODY, deployment(1, 1, 1, 1), autoscaler)
    status_, found, message = ready(conditions.status(looked, None, "2026-01-01T00:10:00Z"))
    assert (status_, found) == ("True", reason)
    assert ("missing request for cpu" in message) == (reason == "AutoscalingFailed")


def test_who_else_scales_is_named() -> None:
    body = BODY | {"spec": BODY["spec"] | {"replicas": 1}}
    looked = seen(body, deployment(3, 3, 3, 3), rival="ScaledObject queue")
    status_, reason, message = ready(conditions.status(looked, None, "2026-01-01T00:10:00Z"))
    assert (status_, reason) == ("True", "ScaledByAnother")
    assert "ScaledObject queue scales the Deployment, and spec.replicas says 1" in message


def test_the_generation_stands_where_tools_look_for_it() -> None:
    assert status(None)["observedGeneration"] == 3
    stalled = conditions.status(Observation(BODY), conditions.Obstacle("InvalidSpec", "no"), "2026-01-01T00:00:00Z")
    assert condition_of(stalled, "Stalled")["status"] == "True"  # type: ignore[index]
    assert condition_of(status(deployment(1, 1, 1, 0)), "Stalled") is None


def test_nothing_is_said_to_start_where_something_stands_in_the_way() -> None:
    obstacle = conditions.Obstacle("NameConflict", "Deployment chat exists", valid=True)
    result = conditions.status(seen(BODY), obstacle, "2026-01-01T00:00:00Z")
    progressing = condition_of(result, "Progressing")
    assert progressing is not None
    assert (progressing["status"], progressing["reason"]) == ("False", "NameConflict")


@pytest.mark.parametrize(
    ("spec", "readiness"),
    [
        ({}, "0/1"),
        ({"replicas": 3}, "0/3"),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}, "0/2"),
        ({"replicas": 0}, "0/0"),
        ({"replicas": 3, "suspend": True}, "0/0"),
    ],
)
def test_replicas_that_nothing_makes_are_missing(spec: dict[str, Any], readiness: str) -> None:
    obstacle = conditions.Obstacle("DoesNotFit", "too large", valid=True)
    result = conditions.status(seen(BODY | {"spec": BODY["spec"] | spec}), obstacle, "2026-01-01T00:00:00Z")
    wanted = readiness.removeprefix("0/")
    assert (result["readiness"], result["replicas"], result["readyReplicas"]) == (readiness, 0, 0)
    assert condition_of(result, "Available")["message"] == f"0 of {wanted} replicas answer"  # type: ignore[index]


def test_replicas_of_an_invalid_spec_are_missing_too() -> None:
    for said, readiness in ((3, "0/3"), ("three", "0/1"), (None, "0/1")):
        body = BODY | {"spec": {"replicas": said, "engine": {"extraArgs": ["--nonsense"]}}}
        result = conditions.status(Observation(body), conditions.Obstacle("InvalidSpec", "no"), "2026-01-01T00:00:00Z")
        assert result["readiness"] == readiness


def test_a_pod_that_ran_out_of_memory_is_told_how_much_is_advised() -> None:
    ended = {"reason": "OOMKilled", "exitCode": 137}
    engine = {"name": "engine", "image": "x", "restartCount": 1, "state": {}, "lastState": {"terminated": ended}}
    killed = {
        "metadata": {"name": "chat-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "node-0", "containers": [{"name": "engine"}]},
        "status": {"containerStatuses": [engine]},
    }

    def told(advised: str | None) -> str:
        sized = Sized(Verdict(True, "Fits", "", advised=advised))
        found = seen(BODY, deployment(1, 1, 1, 0), pods=[killed], sized=sized)
        ready = condition_of(conditions.status(found, None, "2026-01-01T00:00:00Z"), "Ready")
        assert ready is not None
        assert ready["reason"] == "OOMKilled"
        return str(ready["message"])

    assert told("1280Mi").endswith("; Fits advises spec.resources.memory 1280Mi")
    assert "advises" not in told(None)
    engine["name"] = "beside"
    assert "advises" not in told("1280Mi")
