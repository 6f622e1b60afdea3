"""What holds pods up, and what does not, while it is found out whether the model fits."""

import datetime
from typing import Any

import pytest
from fake_cluster import SETTINGS, FakeCluster, Object, change, cluster_with, condition, run, settle

from octavo_operator.cluster import Forbidden, Refused
from octavo_operator.control.reconcile import Outcome
from octavo_runtime.planning.description import FoundModel, described, described_as_unsupported
from octavo_runtime.planning.known_models import find_spec

HUB = {"model": {"uri": "hf://a/b"}}
SMALL = {"exitCode": 0, "message": described(FoundModel(find_spec("SmolLM2-135M"), 0))}
LARGE = {"exitCode": 0, "message": described(FoundModel(find_spec("Llama-3.1-8B"), 0))}


def jobs(cluster: FakeCluster) -> list[str]:
    return [name for kind, name in cluster.objects if kind == "Job"]


def has_deployment(cluster: FakeCluster) -> bool:
    return ("Deployment", "chat") in cluster.objects


def status(cluster: FakeCluster) -> Object:
    found: Object = cluster.objects["LLMService", "chat"]["status"]
    return found


def args(cluster: FakeCluster) -> list[str]:
    found: list[str] = cluster.objects["Deployment", "chat"]["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def test_a_builtin_model_is_known_without_a_job() -> None:
    cluster = cluster_with()
    assert run(cluster) is Outcome.SETTLED
    assert has_deployment(cluster)
    assert jobs(cluster) == []
    assert (condition(cluster, "Fits")["status"], condition(cluster, "Fits")["reason"]) == ("True", "Fits")
    assert "model" not in status(cluster)
    assert status(cluster)["memory"]["device"] == 4 * 2**30
    assert status(cluster)["memory"]["maxModelLen"] == 8192


def test_a_builtin_model_that_is_not_known_is_named_with_those_that_are() -> None:
    cluster = cluster_with(model={"uri": "builtin://smollm3"})
    run(cluster)
    assert has_deployment(cluster), "another image may have it"
    fits = condition(cluster, "Fits")
    assert (fits["status"], fits["reason"]) == ("Unknown", "ModelUnreadable")
    assert "no builtin model 'smollm3' is known here; there is: smollm2; pods start all the same" in fits["message"]


def test_pods_wait_for_the_job_that_reads_the_model_and_its_answer_is_kept() -> None:
    cluster = cluster_with(**HUB)
    assert run(cluster) is Outcome.BLOCKED
    (job,) = jobs(cluster)
    assert job.startswith("chat-model-")
    assert not has_deployment(cluster)
    assert ("Service", "chat") in cluster.objects, "all else is made"
    assert (condition(cluster, "Ready")["status"], condition(cluster, "Ready")["reason"]) == ("False", "ReadingModel")
    assert condition(cluster, "Fits")["status"] == "Unknown"
    assert not any(event.warning for event in cluster.recorded)
    run(cluster)
    assert cluster.writes == []
    cluster.answer = SMALL
    run(cluster)
    assert has_deployment(cluster)
    assert condition(cluster, "Fits")["status"] == "True"
    assert status(cluster)["model"]["description"] == SMALL["message"]
    settle(cluster)
    assert jobs(cluster) == [], "its answer is in the status"
    change(cluster, engine={"maxModelLen": 512})
    settle(cluster)
    assert jobs(cluster) == [], "the same source is not read again"
    assert status(cluster)["memory"]["maxModelLen"] == 512


def test_another_source_is_read_anew_while_the_old_pods_go_on() -> None:
    cluster = cluster_with()
    run(cluster)
    before = args(cluster)
    change(cluster, **HUB)
    assert run(cluster) is Outcome.BLOCKED
    assert args(cluster) == before
    cluster.answer = SMALL
    settle(cluster)
    first = status(cluster)["model"]["source"]
    assert "hf://a/b" in args(cluster)
    change(cluster, model={"uri": "hf://a/c"})
    settle(cluster)
    assert status(cluster)["model"]["source"] != first
    change(cluster, model={"uri": "builtin://smollm2"})
    settle(cluster)
    assert "model" not in status(cluster)


def test_a_job_whose_pods_are_refused_is_not_waited_for() -> None:
    cluster = cluster_with(**HUB)
    run(cluster)
    (job,) = [name for kind, name in cluster.objects if kind == "Job"]
    cluster.said[job] = [
        {"reason": "FailedCreate", "message": "exceeded quota: q", "lastTimestamp": "2026-01-01T00:00:00Z"}
    ]
    run(cluster)
    assert has_deployment(cluster)
    assert "the API server refuses pods: exceeded quota: q; raise the quota" in condition(cluster, "Fits")["message"]


def test_a_new_service_that_does_not_fit_gets_no_pods() -> None:
    cluster = cluster_with(**HUB)
    cluster.answer = LARGE
    settle(cluster)
    assert not has_deployment(cluster)
    # 8,030,261,248 parameters in two bytes, and 384 MiB of processes.
    for type_ in ("Fits", "Ready"):
        found = condition(cluster, type_)
        assert (found["status"], found["reason"]) == ("False", "DoesNotFit")
        assert "must be at least 16.46 GB" in found["message"]
        assert "what would do: spec.resources.memory " in found["message"]
    assert condition(cluster, "Valid")["status"] == "True"
    assert condition(cluster, "Stalled")["reason"] == "DoesNotFit"
    assert cluster.recorded[-1].warning
    assert status(cluster)["memory"]["weights"] == 8_030_261_248 * 2
    change(cluster, resources={"memory": "32Gi"})
    settle(cluster)
    assert has_deployment(cluster)
    assert condition(cluster, "Fits")["status"] == "True"


def test_a_running_one_keeps_its_pods_and_may_be_scaled_down() -> None:
    cluster = cluster_with(autoscaling={"maxReplicas": 2})
    run(cluster)
    before = args(cluster)
    change(cluster, engine={"maxModelLen": 8192, "kvCacheMemory": "16Mi"}, autoscaling={"maxReplicas": 3})
    assert run(cluster) is Outcome.BLOCKED
    assert args(cluster) == before
    assert cluster.objects["HorizontalPodAutoscaler", "chat"]["spec"]["maxReplicas"] == 2
    assert condition(cluster, "Ready")["reason"] == "DoesNotFit"
    change(cluster, suspend=True)
    settle(cluster)
    assert cluster.objects["Deployment", "chat"]["spec"]["replicas"] == 0
    assert condition(cluster, "Fits")["status"] == "False"


def test_other_jobs_of_the_service_are_left_alone() -> None:
    cluster = cluster_with(**HUB)
    cluster.put("Job", "chat-other", metadata={"labels": {"serving.octavo.dev/service": "chat"}})
    cluster.answer = SMALL
    settle(cluster)
    assert jobs(cluster) == ["chat-other"]


def test_what_the_engine_refuses_is_told_before_a_pod_starts() -> None:
    cluster = cluster_with(**HUB)
    cluster.answer = {"exitCode": 0, "message": described_as_unsupported("architecture must be one of X, got Y")}
    settle(cluster)
    assert not has_deployment(cluster)
    fits = condition(cluster, "Fits")
    assert (fits["status"], fits["reason"]) == ("False", "UnsupportedModel")
    assert fits["message"] == "architecture must be one of X, got Y"
    (job,) = jobs(cluster)
    del cluster.objects["Job", job]  # as Kubernetes does after a while
    cluster.answer = None
    cluster.refuses["Job"] = Forbidden("exceeded quota")
    run(cluster)
    assert not has_deployment(cluster), "what is known is not forgotten"
    cluster.refuses.clear()
    run(cluster)
    assert jobs(cluster) == [job], "it is looked at again"
    assert condition(cluster, "Fits")["reason"] == "UnsupportedModel"
    cluster.answer = SMALL
    settle(cluster)
    assert has_deployment(cluster)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"exitCode": 2, "message": "a warning\noctavo: model: cannot reach the hub for hf://a/b"},
            "cannot reach the hub",
        ),
        ({"exitCode": 0, "message": "{}"}, "a description of a model must hold spec or unsupported"),
        ({"exitCode": 0}, "a description of a model must be what octavo describe writes"),
        ({"exitCode": 137, "reason": "OOMKilled"}, "ran out of memory"),
    ],
)
def test_a_source_that_cannot_be_read_is_told_and_holds_nothing_up(answer: Object, words: str) -> None:
    cluster = cluster_with(**HUB)
    run(cluster)
    cluster.answer = answer
    run(cluster)
    assert has_deployment(cluster)
    fits = condition(cluster, "Fits")
    assert (fits["status"], fits["reason"]) == ("Unknown", "ModelUnreadable")
    assert words in fits["message"]
    assert condition(cluster, "Ready")["reason"] == "Starting"
    settle(cluster)
    (job,) = jobs(cluster)
    del cluster.objects["Job", job]
    cluster.answer = SMALL
    settle(cluster)
    assert condition(cluster, "Fits")["status"] == "True", "it was tried again"


@pytest.mark.parametrize("error", [Forbidden("exceeded quota"), Refused("spec.template.spec.volumes[0]: invalid")])
def test_a_job_that_may_not_be_made_holds_nothing_up(error: Exception) -> None:
    cluster = cluster_with(**HUB)
    cluster.refuses["Job"] = error
    assert run(cluster) is Outcome.SETTLED
    assert has_deployment(cluster)
    fits = condition(cluster, "Fits")
    assert (fits["status"], fits["reason"]) == ("Unknown", "ModelUnreadable")
    assert str(error) in fits["message"]
    run(cluster)
    assert cluster.writes == []


def test_a_job_that_does_not_answer_holds_pods_up_for_two_minutes_alone() -> None:
    cluster = cluster_with(**HUB)
    run(cluster)
    (job,) = jobs(cluster)
    made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=100)
    cluster.objects["Job", job]["metadata"]["creationTimestamp"] = made.isoformat()
    run(cluster)
    assert not has_deployment(cluster)
    cluster.objects["Job", job]["metadata"]["creationTimestamp"] = (made - datetime.timedelta(seconds=30)).isoformat()
    run(cluster)
    assert has_deployment(cluster)
    assert condition(cluster, "Fits")["status"] == "Unknown"
    assert "has not said yet what the model is: 120 s have passed" in condition(cluster, "Fits")["message"]
    cluster.answer = LARGE
    settle(cluster)
    assert condition(cluster, "Fits")["reason"] == "DoesNotFit", "it is told, late"
    assert condition(cluster, "Ready")["reason"] == "Starting", "its pods are what they are to be"


def test_a_job_whose_pod_cannot_start_is_not_waited_for() -> None:
    cluster = cluster_with(**HUB)
    run(cluster)
    waiting = {"reason": "CreateContainerConfigError", "message": 'secret "hub" not found'}
    container = {"name": "engine", "image": "x", "state": {"waiting": waiting}}
    cluster.reading = [pod("a", {"phase": "Failed"}), pod("b", {"phase": "Pending", "containerStatuses": [container]})]
    run(cluster)
    assert has_deployment(cluster)
    fits = condition(cluster, "Fits")
    assert (fits["status"], fits["reason"]) == ("Unknown", "ReadingModel")
    assert 'secret "hub" not found; check spec.model.tokenSecret' in fits["message"]


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_a_job_that_has_not_seen_yet_that_its_pod_ended_is_waited_for(phase: str) -> None:
    cluster = cluster_with(**HUB)
    run(cluster)
    said = {"name": "engine", "image": "x", "state": {"terminated": LARGE}}
    cluster.reading = [pod("a", {"phase": phase, "containerStatuses": [said]})]
    run(cluster)
    assert not has_deployment(cluster)
    cluster.answer = LARGE
    run(cluster)
    assert condition(cluster, "Ready")["reason"] == "DoesNotFit"
    assert not has_deployment(cluster)


def pod(name: str, status: Object) -> Object:
    metadata = {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {}, "status": status}


@pytest.mark.parametrize("spec", [{"replicas": 0}, {"suspend": True}])
def test_nothing_is_read_before_pods_are_wanted(spec: dict[str, Any]) -> None:
    cluster = cluster_with(**HUB, **spec)
    settle(cluster)
    assert has_deployment(cluster)
    assert jobs(cluster) == []
    assert (condition(cluster, "Fits")["status"], condition(cluster, "Fits")["reason"]) == ("Unknown", "NoPodWanted")
    change(cluster, replicas=1, suspend=False)
    run(cluster)
    assert len(jobs(cluster)) == 1


def test_an_upgrade_reads_the_models_of_running_services_without_stopping_them() -> None:
    cluster = cluster_with(**HUB)
    cluster.answer = SMALL
    settle(cluster)
    del status(cluster)["model"]
    cluster.answer = None
    newer = SETTINGS.model_copy(update={"runtime_image": "octavo/runtime:2"})
    assert run(cluster, newer) is not Outcome.BLOCKED
    assert len(jobs(cluster)) == 1
    assert cluster.objects["Deployment", "chat"]["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":2")


def test_another_command_is_not_planned() -> None:
    container = {"name": "engine", "command": ["python3", "server.py"], "resources": {"limits": {"memory": "64Mi"}}}
    cluster = cluster_with(**HUB, podTemplate={"spec": {"containers": [container]}})
    settle(cluster)
    assert has_deployment(cluster)
    assert jobs(cluster) == []
    assert condition(cluster, "Fits")["reason"] == "NotPlanned"


def test_a_limit_in_the_pod_template_is_the_one_that_counts() -> None:
    container = {"name": "engine", "resources": {"limits": {"memory": "512Mi"}, "requests": {"memory": "512Mi"}}}
    cluster = cluster_with(podTemplate={"spec": {"containers": [container]}})
    run(cluster)
    assert condition(cluster, "Fits")["reason"] == "DoesNotFit"
    assert status(cluster)["memory"]["device"] == 512 * 2**20


L4 = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}


def test_gpus_are_known_by_their_nodes_and_what_is_open_is_chosen() -> None:
    cluster = cluster_with(**HUB, accelerator={"type": "nvidia"})
    cluster.answer = {"exitCode": 0, "message": described(FoundModel(find_spec("gemma-2-9b"), 0))}
    settle(cluster)
    assert condition(cluster, "Fits")["reason"] == "DeviceUnknown"
    assert has_deployment(cluster), "a node may come with the pod"
    before = args(cluster)
    cluster.labelled = [L4]
    settle(cluster)
    fits = condition(cluster, "Fits")
    assert (fits["status"], fits["reason"]) == ("True", "Fits")
    chosen = args(cluster)[len(before) :]
    assert chosen, "it fits by what was chosen"
    assert all(word not in before for word in chosen if word.startswith("--"))
    settle(cluster, SETTINGS.model_copy(update={"namespaces": ["default"]}))
    assert condition(cluster, "Fits")["reason"] == "DeviceUnknown", "no right to see nodes"
    assert args(cluster)[len(before) :] == chosen, "what was chosen of this spec stays when the nodes have gone"
    assert status(cluster)["chosen"]


def test_what_a_pod_measures_stands_beside_what_was_planned() -> None:
    cluster = cluster_with()
    run(cluster)
    predicted = status(cluster)["memory"]["kvTokens"]
    cluster.measurements.tokens = lambda key, pods: 12_345  # type: ignore[method-assign]
    run(cluster)
    assert status(cluster)["memory"]["kvTokens"] == predicted
    assert status(cluster)["memory"]["measuredKvTokens"] == 12_345
    cluster.measurements.tokens = lambda key, pods: None  # type: ignore[method-assign]
    run(cluster)
    assert cluster.writes == []


def test_trouble_does_not_forget_what_was_read() -> None:
    cluster = cluster_with(**HUB)
    cluster.answer = SMALL
    settle(cluster)
    before = status(cluster)
    cluster.refuses["Deployment"] = KeyError("surprise")
    del cluster.objects["Deployment", "chat"]
    assert run(cluster) is Outcome.FAILED
    assert status(cluster)["model"] == before["model"]
    assert condition(cluster, "Fits")["status"] == "True"
