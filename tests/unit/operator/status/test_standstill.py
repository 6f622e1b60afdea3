"""What stands still without a word, as pods and what makes them show it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from octavo_operator.resources.leader_worker_set import TEMPLATE, WORKER_INDEX
from octavo_operator.status.diagnosis import Problem, diagnose
from octavo_operator.status.rollout import Rollout
from octavo_operator.status.standstill import is_unseen, of_pod, of_workload, root_cause

Object = dict[str, Any]
MADE = "2026-01-01T12:00:00Z"


def at(clock: str) -> datetime:
    hours, minutes, seconds = map(int, clock.split(":"))
    return datetime(2026, 1, 1, hours, minutes, seconds, tzinfo=UTC)


def condition(type_: str, status: str, since: str = MADE, reason: str = "", message: str = "") -> Object:
    return {"type": type_, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}


def pod(*conditions: Object, engine: Object | None = None, node: str | None = "node-a", **status: Any) -> Object:
    """A pod that was made at noon. `engine`: what the kubelet says of its container's state."""
    told: Object = {"phase": "Pending", "conditions": list(conditions)} | status
    if engine is not None:
        running = "running" in engine
        of_engine = {"name": "engine", "image": "octavo/x:1", "restartCount": 0, "ready": False, "state": engine}
        told["containerStatuses"] = [of_engine | {"started": running}]
    spec: Object = {"containers": [{"name": "engine"}], "schedulerName": "default-scheduler"}
    metadata = {"name": "chat-1", "namespace": "default", "creationTimestamp": MADE}
    return {"metadata": metadata, "spec": spec | ({"nodeName": node} if node else {}), "status": told}


def scheduled(since: str = "2026-01-01T12:00:01Z") -> list[Object]:
    return [condition("PodScheduled", "True", since), condition("Ready", "False", since, "ContainersNotReady")]


def changed(found: Object, **fields: Object) -> Object:
    """The same, with more in its metadata, spec or status."""
    return {part: values | fields.get(part, {}) for part, values in found.items()}


WAITS = {"waiting": {"reason": "ContainerCreating"}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}
RUNS = {"running": {"startedAt": "2026-01-01T12:01:00Z"}}
PULLED = [
    {"reason": "Pulling", "message": 'Pulling image "octavo/x:1"', "lastTimestamp": "2026-01-01T12:00:02Z"},
    {"reason": "Started", "message": "Container started", "lastTimestamp": "2026-01-01T12:20:00Z"},
]
PULLING = [{"reason": "Pulling", "message": 'Pulling image "octavo/x:1"'}]
UNHEALTHY = [{"reason": "Unhealthy", "message": "Readiness probe failed: HTTP probe failed with statuscode: 503"}]
COPY = {"name": "copy", "image": "x", "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T12:00:10Z"}}}
BESIDE = {"initContainers": [{"name": "copy", "restartPolicy": "Always"}]}
SIDECAR = {"name": "proxy", "image": "p", "restartCount": 0, "ready": False, "state": RUNS}


def gated(*conditions: Object) -> Object:
    """A pod that is ready but for its gate."""
    engine = {"name": "engine", "restartCount": 0, "ready": True, "state": RUNS}
    ready = condition("ContainersReady", "True", "2026-01-01T12:02:00Z")
    gate = {"readinessGates": [{"conditionType": "balancer.example/attached"}]}
    return changed(pod(*conditions, ready, phase="Running", containerStatuses=[engine]), spec=gate)


# What stands, its events -> the last moment at which it may be on its way, the first at which it is told; reason and
# words.
PODS: dict[str, tuple[Object, list[Object], str, str, str, list[str]]] = {
    "no scheduler": (
        pod(node=None),
        [],
        "12:05:00",
        "12:05:01",
        "NotScheduled",
        ["since 2026-01-01T12:00:00Z", "kube-scheduler", "kubectl get pods -n kube-system"],
    ),
    "a scheduler of another name": (
        changed(pod(node=None), spec={"schedulerName": "volcano"}),
        [],
        "12:05:00",
        "12:05:01",
        "NotScheduled",
        ["volcano, which spec.podTemplate names"],
    ),
    "a kubelet that is away": (
        pod(*scheduled()[:1]),
        [],
        "12:05:01",
        "12:05:02",
        "NotTakenUp",
        ["node-a at 2026-01-01T12:00:01Z", "kubectl describe node node-a"],
    ),
    "a container in the making": (
        pod(*scheduled(), engine=WAITS),
        [],
        "12:05:01",
        "12:05:02",
        "ContainerCreating",
        ["container engine", "node-a since 2026-01-01T12:00:01Z", "no event", "describe pod chat-1", "journalctl"],
    ),
    "a container in the making, after which nothing was said": (
        pod(*scheduled(), engine=WAITS),
        [{"reason": "Scheduled", "message": "Successfully assigned default/chat-1 to node-a"}],
        "12:05:01",
        "12:05:02",
        "ContainerCreating",
        ["the last that was said of it is: Successfully assigned"],
    ),
    "a container that has started, says an event, and not yet its status": (
        pod(*scheduled(), engine=WAITS),
        PULLED,
        "12:25:00",
        "12:25:01",
        "ContainerCreating",
        ["since 2026-01-01T12:20:00Z", "Container started"],
    ),
    "an image on its way, and what else was said meanwhile": (
        pod(*scheduled(), engine=WAITS),
        [*PULLING, {"reason": "AddedInterface", "message": "Add net1"}],
        "12:30:01",
        "12:30:02",
        "ContainerCreating",
        ['Pulling image "octavo/x:1"', "registry"],
    ),
    "a container whose turn came late": (
        pod(*scheduled(), condition("Initialized", "True", "2026-01-01T12:20:00Z"), engine=INITIALIZING),
        [],
        "12:25:00",
        "12:25:01",
        "ContainerCreating",
        ["since 2026-01-01T12:20:00Z"],
    ),
    "a pod that waits for a volume of its claim": (
        changed(pod(node=None), spec={"volumes": [{"name": "model", "persistentVolumeClaim": {"claimName": "c"}}]}),
        [],
        "12:15:00",
        "12:15:01",
        "NotScheduled",
        ["since 2026-01-01T12:00:00Z"],
    ),
    "a container whose startup probe lets it take hours": (
        changed(
            pod(*scheduled(), phase="Running", containerStatuses=[SIDECAR | {"started": False}]),
            spec={"containers": [{"name": "proxy", "startupProbe": {"failureThreshold": 720}}]},
        ),
        [],
        "14:01:00",
        "14:01:01",
        "PodNotReady",
        ["container proxy"],
    ),
    "an image on its way": (
        pod(*scheduled(), engine=WAITS),
        PULLING,
        "12:30:01",
        "12:30:02",
        "ContainerCreating",
        ['Pulling image "octavo/x:1"', "registry"],
    ),
    "an init container that goes on": (
        pod(*scheduled(), engine=INITIALIZING, initContainerStatuses=[COPY]),
        [],
        "12:30:10",
        "12:30:11",
        "NotInitialized",
        ["init container copy", "since 2026-01-01T12:00:10Z", "kubectl logs chat-1 -c copy"],
    ),
    "one beside the others, which has started": (
        changed(pod(*scheduled(), engine=INITIALIZING, initContainerStatuses=[COPY | {"started": True}]), spec=BESIDE),
        [],
        "12:05:01",
        "12:05:02",
        "ContainerCreating",
        ["container engine"],
    ),
    "an engine that is never ready": (
        pod(*scheduled(), engine=RUNS, phase="Running"),
        [],
        "12:31:00",
        "12:31:01",
        "PodNotReady",
        ["has run since 2026-01-01T12:01:00Z and is not ready", "kubectl logs chat-1 -c engine"],
    ),
    "an engine that is no longer ready": (
        pod(*scheduled("2026-01-01T14:00:00Z"), engine=RUNS, phase="Running"),
        UNHEALTHY,
        "14:30:00",
        "14:30:01",
        "PodNotReady",
        ["was ready until 2026-01-01T14:00:00Z", "statuscode: 503"],
    ),
    "a container of the template that is never ready": (
        pod(*scheduled(), phase="Running", containerStatuses=[SIDECAR]),
        [],
        "12:31:00",
        "12:31:01",
        "PodNotReady",
        ["container proxy of spec.podTemplate", "kubectl logs chat-1 -c proxy"],
    ),
    "a gate that nobody opens": (
        gated(*scheduled()),
        [],
        "12:07:00",
        "12:07:01",
        "ReadinessGates",
        ["since 2026-01-01T12:02:00Z", "balancer.example/attached"],
    ),
    "a gate that is closed again": (
        gated(*scheduled("2026-01-01T14:00:00Z")),
        [],
        "14:05:00",
        "14:05:01",
        "ReadinessGates",
        ["since 2026-01-01T14:00:00Z", "balancer.example/attached"],
    ),
    "a pod that its node does not end": (
        changed(pod(*scheduled(), engine=RUNS), metadata={"deletionTimestamp": "2026-01-01T13:00:00Z"}),
        [],
        "13:05:00",
        "13:05:01",
        "NotEnded",
        ["by 2026-01-01T13:00:00Z", "kubectl describe node node-a", "--force"],
    ),
    "a pod that a finalizer holds": (
        changed(
            pod(*scheduled(), engine=RUNS),
            metadata={"deletionTimestamp": "2026-01-01T13:00:00Z", "finalizers": ["batch.example/hold"]},
        ),
        [],
        "13:05:00",
        "13:05:01",
        "NotEnded",
        ["finalizers batch.example/hold"],
    ),
}


@pytest.mark.parametrize("case", PODS)
def test_a_pod_that_stands_still_is_told_once_it_has_for_long(case: str) -> None:
    standing, events, before, after, reason, words = PODS[case]
    assert diagnose(standing, events) is None
    assert of_pod(standing, events, at(before)) is None
    problem = of_pod(standing, events, at(after))
    assert problem is not None
    assert problem.reason == reason
    assert [word for word in words if word not in problem.message] == [], problem.message


def test_a_larger_model_may_load_for_longer_and_what_was_loaded_may_not() -> None:
    standing, lost = PODS["an engine that is never ready"][0], PODS["an engine that is no longer ready"][0]
    four = {"containers": [{"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]}
    proxy = PODS["a container of the template that is never ready"][0]
    for loading, weights, last in (
        (standing, 16_000_000_000, "12:31:00"),
        (standing, 150_000_000_000, "12:51:00"),
        (changed(standing, spec=four), 60_000_000_000, "13:21:00"),
        (lost, 150_000_000_000, "14:30:00"),
        (proxy, 150_000_000_000, "12:31:00"),
    ):
        assert of_pod(loading, [], at(last), weights) is None
        problem = root_cause(None, Rollout.of(None), [loading], {}, at(last) + timedelta(seconds=1), weights)
        assert problem is not None
        assert problem.reason == "PodNotReady"


def test_a_pod_whose_events_are_not_known_may_have_an_image_on_its_way() -> None:
    """Of a service's pods only some are asked for, and of none where there is no right to it."""
    standing = pod(*scheduled(), engine=WAITS)
    assert of_pod(standing, None, at("12:30:01")) is None
    assert root_cause(None, Rollout.of(None), [standing], {}, at("12:30:01")) is None
    problem = of_pod(standing, None, at("12:30:02"))
    assert problem is not None
    assert "event" not in problem.message


@pytest.mark.parametrize(
    "well",
    [
        pod(*scheduled()[:1], condition("Ready", "True"), engine=RUNS, phase="Running"),
        pod(condition("PodScheduled", "False", reason="Unschedulable", message="0/1 nodes"), node=None),
        pod(condition("PodScheduled", "False", reason="SchedulingGated"), node=None),
        pod(*scheduled(), engine={"terminated": {"exitCode": 0}}, phase="Succeeded"),
    ],
)
def test_what_answers_has_ended_or_is_told_of_by_its_status_does_not_stand(well: Object) -> None:
    assert of_pod(well, [], at("23:00:00")) is None
    assert not is_unseen(well)


def test_the_message_stays_the_same_while_time_goes_on() -> None:
    """A status that changed every round would be written every round."""
    for standing, events, _, after, _, _ in PODS.values():
        assert of_pod(standing, events, at(after)) == of_pod(standing, events, at("23:00:00"))


def deployment(*conditions: Object, **metadata: Any) -> Object:
    counts = {"replicas": 2, "updatedReplicas": 1, "readyReplicas": 1, "observedGeneration": 2}
    return {
        "kind": "Deployment",
        "metadata": {"name": "chat", "generation": 2, "creationTimestamp": MADE} | metadata,
        "spec": {"replicas": 1},
        "status": counts | {"conditions": list(conditions)},
    }


def group_set(size: int = 3, groups: int = 1, *conditions: Object) -> Object:
    return {
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "chat", "generation": 1, "creationTimestamp": MADE},
        "spec": {
            "replicas": groups,
            "leaderWorkerTemplate": {"size": size, "leaderTemplate": {"metadata": {"annotations": {TEMPLATE: "t"}}}},
            "rolloutStrategy": {"rollingUpdateConfiguration": {"maxSurge": 0}},
        },
        "status": {"replicas": groups, "updatedReplicas": groups, "conditions": list(conditions)},
    }


def member(name: str, index: int, created: str = MADE) -> Object:
    labels = {WORKER_INDEX: str(index)}
    metadata = {"name": name, "creationTimestamp": created, "labels": labels, "annotations": {TEMPLATE: "t"}}
    return {"metadata": metadata, "spec": {"nodeName": "a"}, "status": {"conditions": [condition("Ready", "True")]}}


def of(running: Object, clock: str, *pods: Object) -> Problem | None:
    return of_workload(running, Rollout.of(running, pods), pods, at(clock))


LATE = condition(
    "Progressing", "False", "2026-01-01T13:00:00Z", "ProgressDeadlineExceeded", 'ReplicaSet "chat-7" has timed out.'
)


def test_a_rollout_past_its_deadline_is_told() -> None:
    problem = of(deployment(LATE), "13:00:01")
    assert problem is not None
    assert problem.reason == "ProgressDeadlineExceeded"
    for word in ("Deployment chat", "since 2026-01-01T13:00:00Z", 'ReplicaSet "chat-7" has timed out.', "describe"):
        assert word in problem.message
    assert of(deployment(LATE | {"status": "True", "reason": "ReplicaSetUpdated"}), "23:00:00") is None


def test_a_rollout_past_its_deadline_is_not_told_while_a_pod_that_came_late_starts() -> None:
    """Such as one that a queue let through, or for which a GPU was freed, hours after it was made."""
    loading = pod(*scheduled("2026-01-01T16:00:00Z"), engine={"running": {"startedAt": "2026-01-01T16:00:05Z"}})
    assert of(deployment(LATE), "16:10:00", loading) is None
    assert of(deployment(LATE), "16:10:00", changed(loading, metadata={"deletionTimestamp": MADE})) is not None


def test_a_deployment_that_no_controller_looks_at_is_told() -> None:
    new = deployment() | {"status": {}}
    assert of(new, "12:05:00") is None
    problem = of(new, "12:05:01")
    assert problem is not None
    assert (problem.reason, "kube-controller-manager" in problem.message) == ("NoController", True)


def test_a_change_of_a_deployment_that_no_controller_looks_at_is_told() -> None:
    fields = [
        {"manager": "octavo", "time": "2026-01-01T15:00:00Z"},
        {"manager": "kube-controller-manager", "subresource": "status", "time": "2026-01-01T16:00:00Z"},
    ]
    changed_ = deployment(generation=3, managedFields=fields)
    assert of(changed_, "15:05:00") is None
    problem = of(changed_, "15:05:01")
    assert problem is not None
    assert "at 2026-01-01T15:00:00Z" in problem.message
    assert of(deployment(generation=3), "23:00:00") is None, "since when is not known"


def test_a_set_of_groups_without_its_controller_is_told() -> None:
    new = group_set() | {"status": {}}
    assert of(new, "12:05:00") is None
    problem = of(new, "12:05:01")
    assert problem is not None
    assert (problem.reason, "lws-system" in problem.message) == ("NoController", True)
    assert of(group_set(), "23:00:00", *(member(f"chat-0{end}", i) for i, end in enumerate(["", "-1", "-2"]))) is None


def test_a_group_whose_workers_are_not_made_is_told() -> None:
    leader = member("chat-0", 0, "2026-01-01T15:00:00Z")
    assert of(group_set(), "15:05:00", leader) is None
    problem = of(group_set(), "15:05:01", leader, member("chat-0-1", 1))
    assert problem is not None
    assert problem.reason == "GroupIncomplete"
    for word in ("StatefulSet chat-0", "since 2026-01-01T15:00:00Z", "kubectl describe statefulset chat-0"):
        assert word in problem.message


def test_a_leader_that_is_not_made_is_told_from_the_last_thing_that_happened() -> None:
    """A set that is scaled up long after it was made has not stood still since."""
    scaled = group_set(2, 2, condition("Progressing", "True", "2026-01-01T18:00:00Z"))
    there = [member("chat-0", 0), member("chat-0-1", 1)]
    assert of(scaled, "18:05:00", *there) is None
    problem = of(scaled, "18:05:01", *there)
    assert problem is not None
    assert "StatefulSet chat has" in problem.message
    assert "since 2026-01-01T18:00:00Z" in problem.message


def test_a_set_that_was_just_written_does_not_stand() -> None:
    """Its controller has not told of it yet, so its conditions are old."""
    scaled = group_set(2, 2, condition("Available", "True", "2026-01-01T12:10:00Z"))
    scaled["metadata"]["managedFields"] = [{"manager": "octavo-scaler", "time": "2026-01-01T18:00:00Z"}]
    there = [member("chat-0", 0), member("chat-0-1", 1)]
    assert of(scaled, "18:05:00", *there) is None
    assert of(scaled, "18:05:01", *there) is not None


def test_a_group_that_ends_is_not_short_of_workers() -> None:
    """A leader that still answers outlives its workers."""
    ending = changed(member("chat-0", 0), metadata={"deletionTimestamp": "2026-01-01T18:00:00Z"})
    assert of(group_set(), "18:00:00", ending) is None
    rolled = group_set(2, 2)
    rolled["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxSurge"] = 1
    old = changed(ending, metadata={"annotations": {TEMPLATE: "old"}})
    groups = [old, *(member(f"chat-1{end}", i) for i, end in enumerate(["", "-1", "-2"]))]
    assert of(rolled, "18:00:00", *groups) is None


def test_a_rollout_that_gives_up_its_additional_group_while_one_starts_does_not_stand() -> None:
    rolled = group_set(2, 2)
    rolled["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]["maxSurge"] = 1
    old = changed(member("chat-0", 0), metadata={"annotations": {TEMPLATE: "old"}})
    starting = changed(member("chat-1", 0), status={"conditions": []})
    workers = [member(f"{leader}-{i}", i) for leader in ("chat-0", "chat-1") for i in (1, 2)]
    assert of(rolled, "18:00:00", old, starting, *workers) is None
    assert of(rolled, "18:00:00", old, member("chat-1", 0), *workers) is not None


def test_the_newest_pod_is_told_before_what_makes_it_and_before_one_that_ends() -> None:
    running = deployment(LATE)
    rollout = Rollout.of(running)
    ending = PODS["a pod that its node does not end"][0]
    waiting = changed(pod(*scheduled(), engine=WAITS), metadata={"name": "chat-0"})

    def told(*pods: Object) -> str | None:
        problem = root_cause(running, rollout, pods, {}, at("23:00:00"))
        return problem and problem.reason

    assert told(ending, waiting) == "ContainerCreating"
    assert told(ending) == "NotEnded"
    assert told() == "ProgressDeadlineExceeded"
