"""When a pod template reaches the pods: what is asked for at once, what the operator brings in turn, and how the
operator builds with the next of either."""

import copy
from typing import Any

import pytest
from fake_cluster import SETTINGS, FakeCluster, Object, change, cluster_with, condition, run, turns

from octavo_operator.control import provenance
from octavo_operator.control.provenance import MADE_FROM
from octavo_operator.settings import Settings

NEWER = SETTINGS.model_copy(update={"runtime_image": "octavo/runtime:2"})
OTHER = [("default", "other")]


def serving(**spec: Any) -> FakeCluster:
    """A service whose pods all answer."""
    cluster = cluster_with(**spec)
    run(cluster)
    answer(cluster)
    run(cluster)
    return cluster


def deployment(cluster: FakeCluster) -> Object:
    return cluster.objects["Deployment", "chat"]


def answer(cluster: FakeCluster, *, ready: int | None = None, updated: int | None = None) -> None:
    """What the Deployment's controller says; all is done unless said otherwise."""
    live = deployment(cluster)
    count = live["spec"]["replicas"]
    live["status"] = {
        "observedGeneration": live["metadata"]["generation"],
        "replicas": count,
        "readyReplicas": count if ready is None else ready,
        "updatedReplicas": count if updated is None else updated,
    }


def image(cluster: FakeCluster) -> str:
    return str(deployment(cluster)["spec"]["template"]["spec"]["containers"][0]["image"])


def test_a_new_image_waits_for_its_turn_and_then_comes() -> None:
    cluster = serving()
    cluster.turns = turns(cluster.woken, under_way=OTHER)
    run(cluster, NEWER)
    assert image(cluster) == "octavo/runtime:1"
    assert condition(cluster, "Ready")["status"] == "True"
    waits = condition(cluster, "Progressing")
    assert (waits["status"], waits["reason"]) == ("False", "Queued")
    assert waits["message"].endswith("one service after another: 1 service has its turn, 1 in all wait")
    run(cluster, NEWER)
    assert cluster.writes == [], "it only waits"

    cluster.turns.leave(OTHER[0])
    assert cluster.woken == ["chat"]
    run(cluster, NEWER)
    assert image(cluster) == "octavo/runtime:2"


def test_a_turn_ends_when_every_pod_answers_and_not_before() -> None:
    cluster = serving()
    run(cluster, NEWER)
    assert image(cluster) == "octavo/runtime:2"
    for unfinished in ({"updated": 0}, {"ready": 0}):
        answer(cluster, **unfinished)
        cluster.turns = turns(cluster.woken, under_way=())  # as after a restart of the operator
        run(cluster, NEWER)
        cluster.turns.leave(OTHER[0])
        assert cluster.turns.words().startswith("1 service has its turn")
    answer(cluster)
    run(cluster, NEWER)
    assert cluster.turns.words().startswith("0 services have")


def test_a_change_of_the_spec_is_no_matter_of_turns() -> None:
    cluster = serving()
    cluster.turns = turns(cluster.woken, under_way=OTHER)
    change(cluster, engine={"maxModelLen": 512})
    run(cluster)
    assert "512" in deployment(cluster)["spec"]["template"]["spec"]["containers"][0]["args"]
    assert condition(cluster, "Progressing")["reason"] != "Queued"


def test_a_change_of_the_spec_takes_along_what_waits() -> None:
    cluster = serving()
    cluster.turns = turns(cluster.woken, under_way=OTHER)
    run(cluster, NEWER)
    change(cluster, engine={"maxModelLen": 512})
    run(cluster, NEWER)
    assert image(cluster) == "octavo/runtime:2"


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 3},
        {"autoscaling": {"maxReplicas": 4}},
        {"observability": {"dashboard": False}},
        {"endpoint": {"port": 8080, "type": "NodePort", "annotations": {"a": "b"}}},
        {"endpoint": {"ingress": {"host": "a.example.com"}}},
        {"rollout": {"strategy": "recreate"}},
    ],
)
def test_while_it_waits_all_else_of_a_service_is_carried_out(spec: dict[str, Any]) -> None:
    cluster = serving()
    cluster.turns = turns(cluster.woken, under_way=OTHER)
    run(cluster, NEWER)
    template = copy.deepcopy(deployment(cluster)["spec"]["template"])
    change(cluster, **spec)
    run(cluster, NEWER)
    assert cluster.writes
    assert deployment(cluster)["spec"]["template"] == template
    assert condition(cluster, "Progressing")["reason"] in ("Queued", "Scaling")


def test_what_serves_nobody_waits_for_nobody() -> None:
    cluster = serving()
    answer(cluster, ready=0)
    cluster.turns = turns(cluster.woken, under_way=OTHER)
    run(cluster, NEWER)
    assert image(cluster) == "octavo/runtime:2"


def test_pod_defaults_and_labels_handed_down_come_in_turn_too() -> None:
    brought = {"pod_defaults": {"priorityClassName": "high"}}, {"propagate_labels": ["team"]}
    for settings in (SETTINGS.model_copy(update=each) for each in brought):
        cluster = cluster_with()
        cluster.objects["LLMService", "chat"]["metadata"]["labels"] = {"team": "green"}
        run(cluster)
        answer(cluster)
        cluster.turns = turns(cluster.woken, under_way=OTHER)
        run(cluster, settings)
        assert condition(cluster, "Progressing")["reason"] == "Queued", settings


def test_a_label_that_is_handed_down_comes_at_once() -> None:
    settings = SETTINGS.model_copy(update={"propagate_labels": ["team"]})
    cluster = cluster_with()
    run(cluster, settings)
    answer(cluster)
    cluster.turns = turns(cluster.woken, under_way=OTHER)
    cluster.objects["LLMService", "chat"]["metadata"]["labels"] = {"team": "green"}
    run(cluster, settings)
    assert deployment(cluster)["spec"]["template"]["metadata"]["labels"]["team"] == "green"


def built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator builds pods in another way from now on."""
    build = provenance.metadata.labels
    monkeypatch.setattr("octavo_operator.resources.metadata.labels", lambda service: build(service) | {"new": "way"})


def test_another_way_to_build_pods_restarts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = serving()
    before = copy.deepcopy(deployment(cluster)["spec"]["template"])
    built_anew(monkeypatch)
    run(cluster)
    assert deployment(cluster)["spec"]["template"] == before
    run(cluster)
    assert cluster.writes == []
    change(cluster, engine={"maxModelLen": 512})
    run(cluster)
    assert deployment(cluster)["spec"]["template"]["metadata"]["labels"]["new"] == "way", "the next rollout brings it"


def test_another_way_to_build_that_may_not_wait_comes_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = serving()
    built_anew(monkeypatch)
    monkeypatch.setattr(provenance, "BUILD", provenance.BUILD + 1)
    run(cluster)
    assert deployment(cluster)["spec"]["template"]["metadata"]["labels"]["new"] == "way"
    assert cluster.turns.words().startswith("1 service has its turn")


@pytest.mark.parametrize(("settings", "reason"), [(SETTINGS, "Serving"), (NEWER, "Queued")])
def test_a_deployment_of_an_earlier_version_rolls_only_where_it_must(settings: Settings, reason: str) -> None:
    cluster = serving()
    del deployment(cluster)["metadata"]["annotations"][MADE_FROM]
    cluster.turns = turns(cluster.woken, under_way=OTHER)
    run(cluster, settings)
    assert image(cluster) == "octavo/runtime:1"
    assert condition(cluster, "Progressing")["reason"] == reason


def test_what_another_wrote_is_put_right_though_a_turn_is_waited_for() -> None:
    cluster = serving()
    cluster.turns = turns(cluster.woken, under_way=OTHER)
    run(cluster, NEWER)
    live = deployment(cluster)
    live["spec"]["template"]["spec"]["hostNetwork"] = True
    written = {"f:spec": {"f:template": {"f:spec": {"f:hostNetwork": {}}}}}
    live["metadata"]["managedFields"].append({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": written})
    run(cluster, NEWER)
    assert "hostNetwork" not in deployment(cluster)["spec"]["template"]["spec"]


def test_a_service_that_goes_or_cannot_be_carried_out_leaves_its_turn() -> None:
    def queued() -> FakeCluster:
        cluster = serving()
        cluster.turns = turns(cluster.woken, under_way=OTHER)
        run(cluster, NEWER)
        assert "1 in all wait" in cluster.turns.words()
        return cluster

    gone = queued()
    del gone.objects["LLMService", "chat"]
    run(gone, NEWER)
    assert "0 in all wait" in gone.turns.words()
    broken = queued()
    change(broken, replicas=-1)
    run(broken, NEWER)
    assert "0 in all wait" in broken.turns.words()
