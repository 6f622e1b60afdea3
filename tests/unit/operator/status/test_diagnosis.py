"""Root causes as pods show them."""

import json
from typing import Any

import pytest

from octavo_operator.kinds import SERVICE_LABEL
from octavo_operator.resources.leader_worker_set import WORKER_INDEX
from octavo_operator.status.diagnosis import diagnose, last_line, root_cause, starting


def pod(
    name: str = "chat-1", created: str = "2026-01-01T00:00:00Z", ready: bool = False, **status: Any
) -> dict[str, Any]:
    conditions = status.pop("conditions", [])
    return {
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"containers": [{"name": "engine", "resources": {"limits": {"memory": "1Gi"}}}]},
        "status": {"conditions": [*conditions, {"type": "Ready", "status": str(ready)}]} | status,
    }


def container(restarts: int = 0, last: dict[str, Any] | None = None, **state: Any) -> list[dict[str, Any]]:
    last_state = {"terminated": last} if last else {}
    return [
        {"name": "engine", "image": "octavo/x:1", "restartCount": restarts, "state": state, "lastState": last_state}
    ]


def unscheduled(message: str) -> dict[str, Any]:
    return pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}])


LOG = "loading\n\x1b[31moctavo: no model.safetensors in /models\x1b[0m\n\n"
JSON_LOG = (
    '{"time": "2026-11-25T12:00:01.250Z", "level": "info", "message": "request"}\n'
    '{"time": "2026-11-25T12:00:02.250Z", "level": "critical", "message": "no model.safetensors in /models"}\n'
)
CASES = [
    (
        pod(containerStatuses=container(waiting={"reason": "ErrImagePull", "message": "not found"})),
        "ImagePullBackOff",
        ["octavo/x:1", "not found", "spec.image"],
    ),
    (
        pod(containerStatuses=container(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling"})),
        "ImagePullBackOff",
        ["cannot pull image"],
    ),
    (
        pod(containerStatuses=container(waiting={"reason": "ErrImageNeverPull", "message": "not present"})),
        "ImagePullBackOff",
        ["load the image"],
    ),
    (
        pod(
            containerStatuses=container(waiting={"reason": "CreateContainerConfigError", "message": 'secret "hf" not'})
        ),
        "ContainerConfigError",
        ['secret "hf" not', "tokenSecret or credentialsSecret, spec.env and spec.podTemplate"],
    ),
    (
        pod(containerStatuses=container(3, {"reason": "OOMKilled", "exitCode": 137}, running={})),
        "OOMKilled",
        ["out of memory 3x", "1Gi", "spec.resources.memory"],
    ),
    (
        pod(containerStatuses=container(terminated={"reason": "OOMKilled", "exitCode": 137})),
        "OOMKilled",
        ["out of memory 1x"],
    ),
    (
        pod(
            containerStatuses=container(
                2, {"reason": "Error", "exitCode": 1, "message": LOG}, waiting={"reason": "CrashLoopBackOff"}
            )
        ),
        "CrashLoopBackOff",
        ["2 restarts", "octavo: no model.safetensors in /models"],
    ),
    (
        pod(
            containerStatuses=container(
                2, {"reason": "Error", "exitCode": 2, "message": JSON_LOG}, waiting={"reason": "CrashLoopBackOff"}
            )
        ),
        "CrashLoopBackOff",
        ["(2 restarts): no model.safetensors in /models"],
    ),
    (
        pod(containerStatuses=container(1, {"reason": "Error", "exitCode": 7}, waiting={"reason": "CrashLoopBackOff"})),
        "CrashLoopBackOff",
        ["exit code 7"],
    ),
    (
        unscheduled("0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available."),
        "Unschedulable",
        ["2 Insufficient nvidia.com/gpu", "add a node"],
    ),
    (unscheduled("0/1 nodes are available: 1 Insufficient memory."), "Unschedulable", ["spec.resources.memory"]),
    (
        unscheduled(
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are "
            "available: 1 Preemption is not helpful for scheduling."
        ),
        "Unschedulable",
        ["available: 1 Insufficient cpu; lower spec.resources.cpu"],
    ),
    (
        unscheduled('persistentvolumeclaim "models" not found'),
        "Unschedulable",
        ['"models" not found', "create the claim"],
    ),
    (
        unscheduled('0/1 nodes are available: persistentvolumeclaim "models" not found. not found'),
        "Unschedulable",
        ['persistentvolumeclaim "models" not found; create'],
    ),
    (
        unscheduled("0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: 1 P."),
        "Unschedulable",
        ["1 node(s) were unschedulable; uncordon a node, or add one"],
    ),
    (pod(phase="Failed", reason="Evicted", message="low on memory"), "Evicted", ["low on memory"]),
]


@pytest.mark.parametrize(("sick", "reason", "words"), CASES, ids=[case[1] for case in CASES])
def test_cause_and_remedy(sick: dict[str, Any], reason: str, words: list[str]) -> None:
    problem = diagnose(sick)
    assert problem is not None
    assert problem.reason == reason
    assert [word for word in words if word not in problem.message] == [], problem.message
    assert "\n" not in problem.message
    assert "chat-1" in problem.message


@pytest.mark.parametrize(
    "well",
    [
        pod(ready=True, containerStatuses=container(1, {"reason": "OOMKilled", "exitCode": 137}, running={})),
        pod(containerStatuses=container(running={})),
        pod(containerStatuses=container(waiting={"reason": "ContainerCreating"})),
        pod(containerStatuses=container(1, {"reason": "Completed", "exitCode": 0}, running={})),
        pod(),
    ],
)
def test_pods_on_their_way_are_no_problem(well: dict[str, Any]) -> None:
    assert diagnose(well) is None


def test_pod_that_is_being_deleted_is_no_problem() -> None:
    leaving = unscheduled("0/1 nodes are available: 1 Insufficient cpu.")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert diagnose(leaving) is None


SELECTED = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, "


@pytest.mark.parametrize(
    ("message", "spec", "remedies"),
    [
        (
            SELECTED,
            {"nodeSelector": {"pool": "llm", "zone": "a"}},
            "it asks for a node with pool=llm, zone=a: check spec.nodeSelector, or label a node so",
        ),
        (
            SELECTED,
            {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}},
            "no node that is left has the GPU NVIDIA-L4: check spec.accelerator.product",
        ),
        (SELECTED, {}, "check nodeSelector and affinity in spec.podTemplate"),
        (
            SELECTED,
            {"nodeSelector": {"pool": "llm"}, "affinity": {"nodeAffinity": {}}},
            "it asks for a node with pool=llm: check spec.nodeSelector, or label a node so; check nodeSelector and "
            "affinity in spec.podTemplate",
        ),
        (
            "0/1 nodes are available: 1 node(s) had untolerated taint {team: search}.",
            {},
            "add a toleration to spec.tolerations",
        ),
        *(
            (
                f"0/1 nodes are available: 1 node(s) {said}.",
                {"nodeSelector": {"pool": "llm"}},
                "its volume is within reach of other nodes alone: make room on them, or give the claim another volume",
            )
            for said in ("had volume node affinity conflict", "didn't match PersistentVolume's node affinity")
        ),
    ],
)
def test_nodes_that_are_none_of_those_that_a_pod_may_go_to(message: str, spec: dict[str, Any], remedies: str) -> None:
    waiting = unscheduled(f"{message} preemption: 0/1 nodes are available: 1 Preemption is not helpful.")
    waiting["spec"] |= spec
    problem = diagnose(waiting)
    assert problem is not None
    assert problem.message.split("; ", 1)[1] == remedies


def test_an_image_that_is_tried_again_and_again_is_told_in_the_same_words_all_the_time() -> None:
    cause = 'failed to pull and unpack image "octavo/x:1": not found'
    said = [
        {"reason": "ErrImagePull", "message": cause},
        {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "octavo/x:1": ErrImagePull: {cause}'},
    ]
    told = [diagnose(pod(containerStatuses=container(waiting=each))) for each in said]
    assert told[0] is not None
    assert told[0] == told[1]
    assert f"cannot pull image octavo/x:1: {cause}; " in told[0].message


def test_newest_pod_speaks_first() -> None:
    old = unscheduled("0/1 nodes are available: 1 Insufficient cpu.")
    new = pod("chat-2", "2026-01-02T00:00:00Z", containerStatuses=container(waiting={"reason": "InvalidImageName"}))
    problem = root_cause([old, new])
    assert problem is not None
    assert problem.reason == "ImagePullBackOff"


def test_starting_says_what_the_pod_does() -> None:
    assert starting([pod(containerStatuses=container(running={}))]) == "pod chat-1 is loading the model"
    assert starting([pod()]) == "pod chat-1 is starting"
    assert starting([pod(ready=True)]) is None


def test_long_log_lines_are_cut() -> None:
    assert len(last_line("x" * 5000)) == 400


def event(reason: str, message: str, at: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"reason": reason, "message": message, "lastTimestamp": at}


ABSENT = event("FailedMount", 'MountVolume.SetUp failed for volume "api-keys" : secret "absent" not found')
ECHO = event("FailedMount", "Unable to attach or mount volumes: unmounted volumes=[api-keys]", "2026-01-01T00:02:00Z")
ATTACHED = event("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) chat-0')
PROBED = [
    event("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 500"),
    event("Killing", "Container engine failed startup probe, will be restarted"),
]


@pytest.mark.parametrize(
    ("events", "reason", "words"),
    [
        ([ABSENT], "FailedMount", ['secret "absent" not found', "spec.endpoint.apiKeysSecret"]),
        ([ABSENT, ECHO], "FailedMount", ['secret "absent" not found']),
        ([ATTACHED], "FailedAttachVolume", ["Multi-Attach", "spec.rollout.strategy: recreate"]),
        ([event("FailedCreatePodSandBox", "no address left")], "FailedCreatePodSandBox", ["no address left"]),
        (
            [event("FailedMount", 'MountVolume.SetUp failed for volume "x" : configmap "cfg" not found')],
            "FailedMount",
            ['configmap "cfg" not found', "create it", "spec.podTemplate"],
        ),
    ],
)
def test_what_stands_in_events_alone(events: list[dict[str, Any]], reason: str, words: list[str]) -> None:
    problem = diagnose(pod(containerStatuses=container(waiting={"reason": "ContainerCreating"})), events)
    assert problem is not None
    assert problem.reason == reason
    assert [word for word in words if word not in problem.message] == [], problem.message


def test_an_event_of_the_past_is_no_trouble_of_a_container_that_runs() -> None:
    assert diagnose(pod(containerStatuses=container(running={})), [ABSENT]) is None


@pytest.mark.parametrize("code", [0, 137])
def test_a_probe_that_ends_the_container_is_named(code: int) -> None:
    sick = pod(containerStatuses=container(2, {"reason": "Error", "exitCode": code}, running={}))
    problem = diagnose(sick, PROBED)
    assert problem is not None
    assert problem.reason == "ProbeFailed"
    assert "Startup probe failed: HTTP probe failed with statuscode: 500" in problem.message


@pytest.mark.parametrize(
    ("restarts", "words"), [(0, "ended at its start: no model"), (2, "ends after each start (2 restarts)")]
)
def test_an_end_that_has_not_come_again_yet_is_not_told_as_one_that_has(restarts: int, words: str) -> None:
    ended = {"exitCode": 2, "message": "no model"}
    problem = diagnose(pod(containerStatuses=container(restarts, ended, terminated=ended)))
    assert problem is not None
    assert words in problem.message


@pytest.mark.parametrize(
    "state",
    [{"waiting": {"reason": "CrashLoopBackOff"}}, {"running": {}}, {"terminated": {"exitCode": 0}}],
    ids=lambda state: next(iter(state)),
)
def test_an_end_without_an_error_is_one_for_a_server(state: dict[str, Any]) -> None:
    problem = diagnose(pod(containerStatuses=container(5, {"reason": "Completed", "exitCode": 0}, **state)))
    assert problem is not None
    assert problem.reason == "CrashLoopBackOff"
    assert "exit code 0" in problem.message
    assert "5 restarts" in problem.message


def test_one_crash_after_a_long_run_is_not_told_as_one_at_each_start() -> None:
    ended = {
        "reason": "Error",
        "exitCode": 1,
        "message": "the engine process ended with exit code -9",
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:28:00Z",
    }
    problem = diagnose(pod(containerStatuses=container(1, ended, running={})))
    assert problem is not None
    assert problem.reason == "Restarted"
    assert "ended after 28 min (1 restart): the engine process ended with exit code -9" in problem.message
    assert "want of memory" in problem.message


def test_other_containers_are_named() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}
    sidecar = {"name": "shipper", "image": "s:1", "state": waiting, "lastState": {}, "restartCount": 0}
    for statuses, words in (
        ({"initContainerStatuses": [sidecar]}, "init container shipper of spec.podTemplate, cannot pull image s:1"),
        ({"containerStatuses": [sidecar]}, "container shipper of spec.podTemplate, cannot pull image s:1"),
    ):
        problem = diagnose(pod(**statuses))
        assert problem is not None
        assert words in problem.message
        assert "check its image in spec.podTemplate" in problem.message


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        ("initContainerStatuses", {"waiting": {"reason": "CrashLoopBackOff"}}, "kubectl logs chat-1 -c fetch tells"),
        ("containerStatuses", {"running": {}}, "kubectl logs chat-1 -c fetch --previous tells"),
    ],
)
def test_that_others_wrote_no_message_is_not_told_as_no_log(kind: str, state: dict[str, Any], words: str) -> None:
    last = {"terminated": {"exitCode": 1}}
    other = {"name": "fetch", "image": "f:1", "restartCount": 2, "state": state, "lastState": last}
    problem = diagnose(pod(**{kind: [other]}))
    assert problem is not None
    assert problem.elsewhere
    assert f"exit code 1, {words} more" in problem.message
    own = diagnose(pod(containerStatuses=container(2, {"exitCode": 1}, waiting={"reason": "CrashLoopBackOff"})))
    assert own is not None
    assert (own.elsewhere, own.message.endswith("exit code 1, nothing logged")) == (False, True)


ENVIRONMENT = [
    {"name": "HOME", "value": "/tmp"},
    {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
    {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "a"}}},
    {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "b"}}},
    {"name": "AWS_SESSION_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "c", "optional": True}}},
    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "nosec", "key": "p"}}},
    {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "nosec", "key": "p"}}},
]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('secret "nosec" not found', "; PASSWORD is taken from it: check spec.env, or spec.podTemplate"),
        ('configmap "nosec" not found', "; COLOUR is taken from it: check spec.env, or spec.podTemplate"),
        ("couldn't find key p in ConfigMap default/nosec", "; COLOUR is taken from it: check spec.env"),
        ('secret "hub" not found', "; HF_TOKEN is taken from it: check spec.model.tokenSecret"),
        (
            "couldn't find key a in Secret default/s3",
            "; AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY are taken from it: check spec.model.credentialsSecret",
        ),
        ('secret "other" not found', "spec.env and spec.podTemplate"),
    ],
)
def test_who_refers_to_what_is_missed_is_named(said: str, words: str) -> None:
    sick = pod(containerStatuses=container(waiting={"reason": "CreateContainerConfigError", "message": said}))
    sick["spec"]["containers"][0]["env"] = ENVIRONMENT
    problem = diagnose(sick)
    assert problem is not None
    assert words in problem.message


def test_an_init_container_that_is_done_is_no_problem() -> None:
    done = {"name": "init", "image": "i", "state": {"terminated": {"exitCode": 0}}, "lastState": {}, "restartCount": 0}
    assert diagnose(pod(initContainerStatuses=[done])) is None


def test_scheduling_gates_are_no_lack_of_room() -> None:
    gated = pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}])
    gated["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    problem = diagnose(gated)
    assert problem is not None
    assert problem.reason == "SchedulingGated"
    assert "kueue.x-k8s.io/admission" in problem.message


@pytest.mark.parametrize(
    ("claim", "remedy"),
    [
        (
            "chat-model-cache",
            "set spec.model.cache.storageClassName to a class that the cluster has, and delete chat-model-cache if it "
            "is of another",
        ),
        ("models", "give the claim models a volume"),
        ("data-model-cache", "give the claim data-model-cache a volume"),
    ],
)
def test_a_claim_without_a_volume_is_named(claim: str, remedy: str) -> None:
    sick = unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found")
    volumes = [{"name": "tmp", "emptyDir": {}}, {"name": "model", "persistentVolumeClaim": {"claimName": claim}}]
    sick["spec"]["volumes"] = volumes
    sick["metadata"]["labels"] = {SERVICE_LABEL: "chat"}
    problem = diagnose(sick)
    assert problem is not None
    said = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims"
    assert problem.message == f"pod chat-1 fits on no node: {said}; {remedy}"


def test_all_remedies_that_apply_are_told() -> None:
    sick = unscheduled("0/1 nodes are available: 1 Insufficient memory, 1 Insufficient nvidia.com/gpu.")
    problem = diagnose(sick)
    assert problem is not None
    assert "spec.resources.memory" in problem.message
    assert "free a GPU" in problem.message


def test_a_pod_that_ended_long_ago_is_not_the_present_trouble() -> None:
    dead = pod(phase="Failed", reason="DeadlineExceeded", message="too long")
    successor = pod("chat-2", "2026-01-02T00:00:00Z", ready=True)
    assert root_cause([dead, successor]) is None
    assert starting([dead, successor]) is None
    alone = root_cause([dead])
    assert alone is not None
    assert alone.reason == "DeadlineExceeded"


def test_restarts_of_a_pod_that_loads_are_told() -> None:
    loading = pod(containerStatuses=container(1, {"reason": "Completed", "exitCode": 0}, running={}))
    assert starting([loading]) == "pod chat-1 is loading the model (1 restart)"


def test_a_worker_that_follows_its_leader_is_no_cause() -> None:
    line = json.dumps({"level": "error", "message": "node 0 (chat-0.chat-0 port 29501) is gone"})
    last = {"exitCode": 1, "message": f"{line}\n"}
    ended = pod("chat-0-1", containerStatuses=container(1, last, running={}))
    ended["metadata"]["labels"] = {WORKER_INDEX: "1"}
    assert diagnose(ended) is None
    ended["metadata"]["labels"] = {WORKER_INDEX: "0"}
    assert diagnose(ended) is not None
