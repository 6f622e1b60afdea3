"""A model in a cache: downloaded once by a Job, kept to, and told of in words while it is not there."""

import json
from typing import Any

import pytest
from fake_cluster import SETTINGS, FakeCluster, Object, change, cluster_with, condition, run, settle

from octavo_operator.cluster import Forbidden
from octavo_operator.control.reconcile import Outcome
from octavo_operator.scraping.downloads import Progress
from octavo_runtime.planning.description import FoundModel, described
from octavo_runtime.planning.known_models import find_spec

CLAIM = "chat-model-cache"
OWN = {"model": {"uri": "hf://a/b", "cache": {"size": "50Gi"}}}
SHARED = {"model": {"uri": "hf://a/b", "cache": {"claimName": "models"}}}
FOLDER = "hf-a-b-1/c0ffee/b"
SMALL = described(FoundModel(find_spec("SmolLM2-135M"), 0))
LARGE = described(FoundModel(find_spec("Llama-3.1-8B"), 0))


def came(description: str = SMALL, folder: str = FOLDER) -> Object:
    said = {"revision": "c0ffee", "folder": folder, "size": 7, "description": description}
    return {"exitCode": 0, "message": json.dumps(said)}


def jobs(cluster: FakeCluster) -> list[str]:
    return [name for kind, name in cluster.objects if kind == "Job"]


def template(cluster: FakeCluster) -> Object | None:
    deployment = cluster.objects.get(("Deployment", "chat"))
    return None if deployment is None else deployment["spec"]["template"]["spec"]


def model_of(cluster: FakeCluster) -> str:
    found = template(cluster)
    assert found is not None
    return str(found["containers"][0]["args"][1])


def status(cluster: FakeCluster) -> Object:
    found: Object = cluster.objects["LLMService", "chat"]["status"]
    return found


def reason(cluster: FakeCluster) -> str:
    return str(condition(cluster, "Ready")["reason"])


def message(cluster: FakeCluster) -> str:
    return str(condition(cluster, "Ready")["message"])


def failing(said: Object | str, *, runs: bool = False) -> Object:
    """A pod of a Job whose container has ended, and waits or runs again."""
    text = said if isinstance(said, str) else json.dumps(said)
    state = {"running": {}} if runs else {"waiting": {"reason": "CrashLoopBackOff"}}
    ended = {"terminated": {"exitCode": 2, "message": text}}
    container = {"name": "engine", "state": state, "lastState": ended, "restartCount": 1}
    metadata = {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    phase = {"phase": "Running", "podIP": "10.0.0.1"}
    return {"metadata": metadata, "spec": {}, "status": phase | {"containerStatuses": [container]}}


def test_pods_wait_until_the_model_is_there_and_mount_it_read_only() -> None:
    cluster = cluster_with(**OWN)
    assert run(cluster) is Outcome.BLOCKED
    assert ("PersistentVolumeClaim", CLAIM) in cluster.objects
    (job,) = jobs(cluster)
    assert template(cluster) is None
    assert reason(cluster) == "DownloadingModel"
    assert f"Job {job} downloads hf://a/b to PersistentVolumeClaim {CLAIM}" in message(cluster)
    assert not any(event.warning for event in cluster.recorded)
    run(cluster)
    assert cluster.writes == [], "nothing is done twice"
    cluster.answer = came()
    run(cluster)
    found = template(cluster)
    assert found is not None
    assert model_of(cluster) == f"file:///models/{FOLDER}"
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in found["containers"][0]["volumeMounts"]
    assert {"name": "model", "persistentVolumeClaim": {"claimName": CLAIM}} in found["volumes"]
    said = status(cluster)["model"]
    assert (said["revision"], said["folder"], said["size"]) == ("c0ffee", FOLDER, 7)
    assert condition(cluster, "Fits")["status"] == "True", "no second Job reads what it is"
    assert jobs(cluster) == [job], "others may wait for it; it goes by itself"


def test_the_revision_is_kept_to_when_the_job_is_gone_and_the_source_has_moved() -> None:
    cluster = cluster_with(**OWN)
    cluster.answer = came()
    settle(cluster)
    for name in jobs(cluster):
        del cluster.objects["Job", name]
    cluster.answer = came(folder="hf-a-b-1/beef/b")
    change(cluster, engine={"maxModelLen": 512}, replicas=2)
    settle(cluster)
    assert model_of(cluster) == f"file:///models/{FOLDER}"
    assert jobs(cluster) == [], "it is not asked for again"


def test_another_model_is_downloaded_while_the_old_pods_go_on() -> None:
    cluster = cluster_with(**OWN)
    cluster.answer = came()
    settle(cluster)
    (first,) = jobs(cluster)
    cluster.answer = None
    change(cluster, model=OWN["model"] | {"uri": "hf://a/c"})
    assert run(cluster) is Outcome.BLOCKED
    assert model_of(cluster) == f"file:///models/{FOLDER}"
    assert jobs(cluster) != [first]
    assert len(jobs(cluster)) == 1, "the former Job goes"
    cluster.answer = came(folder="hf-a-c-1/beef/c")
    settle(cluster)
    assert model_of(cluster) == "file:///models/hf-a-c-1/beef/c"


def test_a_claim_that_was_made_anew_is_filled_anew() -> None:
    cluster = cluster_with(**OWN)
    cluster.answer = came()
    settle(cluster)
    for kind, name in [*(("Job", name) for name in jobs(cluster)), ("PersistentVolumeClaim", CLAIM)]:
        del cluster.objects[kind, name]
    cluster.answer = None
    settle(cluster)
    assert reason(cluster) == "DownloadingModel"
    assert model_of(cluster) == f"file:///models/{FOLDER}"
    cluster.answer = came(folder="hf-a-b-1/beef/b")
    settle(cluster)
    assert model_of(cluster) == "file:///models/hf-a-b-1/beef/b"


def test_a_claim_of_the_users_own_is_used_and_never_written() -> None:
    cluster = cluster_with(**SHARED)
    assert run(cluster) is Outcome.BLOCKED
    assert reason(cluster) == "NoCache"
    assert "spec.model.cache.claimName: there is no PersistentVolumeClaim models in namespace default" in message(
        cluster
    )
    assert jobs(cluster) == []
    claim = cluster.put("PersistentVolumeClaim", "models")
    cluster.answer = came()
    settle(cluster)
    assert model_of(cluster) == f"file:///models/{FOLDER}"
    assert cluster.objects["PersistentVolumeClaim", "models"] == claim
    assert status(cluster)["model"]["claim"] == claim["metadata"]["uid"]


def test_a_claim_of_another_that_has_the_name_is_not_taken() -> None:
    cluster = cluster_with(**OWN)
    cluster.put("PersistentVolumeClaim", CLAIM)
    run(cluster)
    assert reason(cluster) == "NameConflict"
    assert "name it in spec.model.cache.claimName" in message(cluster)
    assert jobs(cluster) == []


def test_a_claim_grows_with_the_spec() -> None:
    cluster = cluster_with(**OWN)
    cluster.answer = came()
    settle(cluster)
    change(cluster, model=OWN["model"] | {"cache": {"size": "80Gi"}})
    settle(cluster)
    asked = cluster.objects["PersistentVolumeClaim", CLAIM]["spec"]["resources"]["requests"]
    assert asked == {"storage": "80Gi"}
    assert model_of(cluster) == f"file:///models/{FOLDER}"


@pytest.mark.parametrize(
    ("said", "reason_", "words"),
    [
        ({"problem": "model: no room for hf://a/b: 9.00 GiB are still to come", "full": True}, "CacheFull", "no room"),
        ({"problem": "model: no permission to read a/b (HTTP 401)"}, "ModelDownloadFailed", "(HTTP 401)"),
        ("Killed\nTraceback\nMemoryError: oh", "ModelDownloadFailed", "MemoryError: oh"),
        ("", "ModelDownloadFailed", "exit code 2, nothing logged"),
    ],
)
def test_a_failure_is_told_and_tried_again(said: Any, reason_: str, words: str) -> None:
    cluster = cluster_with(**OWN)
    run(cluster)
    for runs in (False, True):
        cluster.reading = [failing(said, runs=runs)]
        assert run(cluster) is Outcome.BLOCKED
        assert reason(cluster) == reason_
        assert words in message(cluster)
        assert "hf://a/b was not downloaded: " in message(cluster)
    assert cluster.recorded[-1].warning
    assert jobs(cluster) != []
    assert template(cluster) is None
    assert not any(item["type"] == "Stalled" for item in status(cluster)["conditions"]), "it goes on by itself"
    cluster.answer = came()
    settle(cluster)
    assert model_of(cluster) == f"file:///models/{FOLDER}"


def test_how_far_it_is_stands_in_the_status() -> None:
    cluster = cluster_with(**OWN)
    run(cluster)
    cluster.reading = [failing({"problem": "model: broke off"}, runs=True)]
    cluster.downloads.progress = lambda *_: Progress(  # type: ignore[method-assign]
        bytes=2 * 10**9, total=8 * 10**9, bytes_per_second=10**8, seconds_left=60, waits="HTTP 429; tried again in 5 s"
    )
    run(cluster)
    told = {"bytes": 2 * 10**9, "total": 8 * 10**9, "bytesPerSecond": 10**8, "secondsLeft": 60}
    assert status(cluster)["model"]["download"] == told
    assert reason(cluster) == "DownloadingModel", "it runs again, and has got over it"
    assert "2.00 of 8.00 GB, 100.0 MB/s, about 1 min left; HTTP 429; tried again in 5 s" in message(cluster)
    cluster.answer = came()
    settle(cluster)
    assert "download" not in status(cluster)["model"]


def test_a_model_that_does_not_fit_gets_no_pods() -> None:
    cluster = cluster_with(**OWN)
    cluster.answer = came(LARGE)
    settle(cluster)
    assert template(cluster) is None
    assert reason(cluster) == "DoesNotFit"
    change(cluster, resources={"memory": "32Gi"})
    settle(cluster)
    assert model_of(cluster) == f"file:///models/{FOLDER}"


def test_nothing_is_downloaded_for_a_service_without_pods() -> None:
    cluster = cluster_with(**OWN, suspend=True)
    settle(cluster)
    assert jobs(cluster) == []
    assert reason(cluster) == "Suspended"
    change(cluster, suspend=False)
    run(cluster)
    assert len(jobs(cluster)) == 1
    change(cluster, suspend=True)
    settle(cluster)
    assert jobs(cluster) == []


def test_a_job_whose_answer_is_lost_is_made_again() -> None:
    cluster = cluster_with(**OWN)
    run(cluster)
    (name,) = jobs(cluster)
    cluster.objects["Job", name]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    run(cluster)
    assert jobs(cluster) == []
    run(cluster)
    assert jobs(cluster) == [name]


def test_a_job_that_says_nothing_is_told_and_not_made_again_and_again() -> None:
    cluster = cluster_with(**OWN)
    cluster.answer = {"exitCode": 0, "message": "done"}
    settle(cluster)
    assert len(jobs(cluster)) == 1
    assert reason(cluster) == "ModelDownloadFailed"
    assert "did not say where the model is" in message(cluster)


def test_what_the_api_server_refuses_is_told() -> None:
    cluster = cluster_with(**OWN)
    cluster.refuses["PersistentVolumeClaim"] = Forbidden("exceeded quota: storage")
    assert run(cluster) is Outcome.BLOCKED
    assert reason(cluster) == "Refused"
    assert f"PersistentVolumeClaim {CLAIM}: exceeded quota: storage" in message(cluster)
    assert template(cluster) is None


QUOTA = 'Error creating: pods "octavo-model-x" is forbidden: failed quota: q: must specify limits.cpu for: engine'


def test_pods_of_the_job_that_are_refused_are_told() -> None:
    cluster = cluster_with(**OWN)
    run(cluster)
    (job,) = jobs(cluster)
    cluster.said[job] = [{"reason": "FailedCreate", "message": QUOTA, "lastTimestamp": "2026-01-01T00:00:00Z"}]
    run(cluster)
    assert reason(cluster) == "ModelDownloadFailed"
    assert f"Job {job}: the API server refuses pods: {QUOTA}; set it for the engine" in message(cluster)


def test_a_job_that_does_not_run_is_made_anew_as_the_spec_says_and_one_that_runs_goes_on() -> None:
    cluster = cluster_with(**OWN, nodeSelector={"pool": "tpyo"})
    run(cluster)
    (job,) = jobs(cluster)

    def placed() -> Any:
        return cluster.objects["Job", job]["spec"]["template"]["spec"]["nodeSelector"]

    cluster.reading = [failing("", runs=True)]
    change(cluster, nodeSelector={"pool": "typo"})
    settle(cluster)
    assert placed() == {"pool": "tpyo"}
    cluster.reading = []
    settle(cluster)
    assert placed() == {"pool": "typo"}
    cluster.objects["Job", job]["metadata"]["ownerReferences"][0]["uid"] = "another-service"
    change(cluster, nodeSelector={"pool": "small"})
    settle(cluster)
    assert placed() == {"pool": "typo"}, "services share it"


def test_a_cache_that_is_taken_out_of_the_spec_leaves_no_job() -> None:
    cluster = cluster_with(**OWN)
    run(cluster)
    (job,) = jobs(cluster)
    change(cluster, model={"uri": "builtin://smollm2"})
    settle(cluster, SETTINGS)
    assert job not in jobs(cluster)
    assert ("PersistentVolumeClaim", CLAIM) in cluster.objects, "it goes with the service"
