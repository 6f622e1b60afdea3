"""Which objects a service becomes, and what they have in common."""

import dataclasses

import pytest
from built import SETTINGS, kinds, service
from pydantic import ValidationError

from octavo_operator import resources
from octavo_operator.kinds import KINDS, owned
from octavo_operator.settings import Settings

ROUTES = {"ingress": {"host": "a.example.com"}, "gateway": {"name": "public", "hostname": "b.example.com"}}
ALWAYS = {"ServiceAccount", "Service", "PodDisruptionBudget", "Deployment"}


def test_features_decide_which_objects_there_are() -> None:
    assert kinds() == ALWAYS
    assert kinds(observability={"dashboard": True}) == ALWAYS | {"ConfigMap"}
    assert kinds(endpoint={"allowedNamespaces": []}) == ALWAYS | {"NetworkPolicy"}
    assert kinds(autoscaling={"maxReplicas": 3}) == ALWAYS | {"HorizontalPodAutoscaler"}
    keda = {"maxReplicas": 3, "provider": "keda"}
    assert kinds(autoscaling=keda) == ALWAYS | {"ScaledObject"}
    assert kinds(endpoint=ROUTES) == ALWAYS | {"Ingress", "HTTPRoute"}


def test_every_object_is_owned_labelled_and_observed() -> None:
    everything = service(
        autoscaling={"maxReplicas": 3},
        observability={"dashboard": True},
        endpoint={"allowedNamespaces": []} | ROUTES,
    )
    objects = resources.build(everything, SETTINGS)
    for item in objects:
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("LLMService", "u1", True)
        assert item["metadata"]["labels"]["serving.octavo.dev/service"] == "chat"
    applied = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert applied == [each for each in owned("chat") if each[0] not in ("ScaledObject", "LeaderWorkerSet")], (
        "in this order"
    )


def test_chosen_labels_and_annotations_are_handed_down_to_objects_and_pods() -> None:
    settings = SETTINGS.model_copy(
        update={
            "propagate_labels": ["team", "cost.example.com/", "app.kubernetes.io/name"],
            "propagate_annotations": ["note"],
        }
    )
    over = {"metadata": {"labels": {"cost.example.com/center": "of the pods"}}}
    marked = dataclasses.replace(
        service(podTemplate=over, autoscaling={"maxReplicas": 3}),
        labels={"team": "search", "cost.example.com/center": "7", "teams": "x", "app.kubernetes.io/name": "theirs"},
        annotations={"note": "a", "other": "b"},
    )
    objects = resources.build(marked, settings)
    (template,) = [item["spec"]["template"]["metadata"] for item in objects if item["kind"] == "Deployment"]
    for metadata in [item["metadata"] for item in objects] + [template]:
        assert metadata["labels"].items() >= {"team": "search", "app.kubernetes.io/name": "llmservice"}.items()
        assert "teams" not in metadata["labels"]
        assert metadata["annotations"]["note"] == "a"
        assert "other" not in metadata["annotations"]
    assert objects[0]["metadata"]["labels"]["cost.example.com/center"] == "7"
    assert template["labels"]["cost.example.com/center"] == "of the pods"


@pytest.mark.parametrize("key", ["serving.octavo.dev/adopt", "kubectl.kubernetes.io/"])
def test_what_is_meant_for_one_object_is_never_handed_down(key: str) -> None:
    with pytest.raises(ValidationError, match="must not be Octavo's or kubectl's own"):
        Settings(runtime_image="octavo/runtime:1", propagate_annotations=[key])


def test_every_object_is_of_the_version_that_is_watched_and_asked_for() -> None:
    versions = {kind.name: f"{kind.group}/{kind.version}".removeprefix("/") for kind in KINDS}
    for provider in ("builtin", "keda"):
        said = service(autoscaling={"maxReplicas": 3, "provider": provider}, endpoint=ROUTES)
        for item in resources.build(said, SETTINGS):
            assert item["apiVersion"] == versions[item["kind"]]
