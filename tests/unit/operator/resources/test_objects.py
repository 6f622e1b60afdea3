"""Which objects a service becomes, and what they have in common."""

from built import SETTINGS, kinds, service

from octavo_operator import resources
from octavo_operator.kinds import KINDS, owned

ALWAYS = {"ServiceAccount", "Service", "PodDisruptionBudget", "Deployment"}


def test_features_decide_which_objects_there_are() -> None:
    assert kinds() == ALWAYS | {"ConfigMap"}
    assert kinds(observability={"dashboard": False}) == ALWAYS
    assert kinds(autoscaling={"maxReplicas": 3}) == ALWAYS | {"ConfigMap", "HorizontalPodAutoscaler"}
    keda = {"maxReplicas": 3, "provider": "keda"}
    assert kinds(autoscaling=keda) == ALWAYS | {"ConfigMap", "ScaledObject"}


def test_every_object_is_owned_labelled_and_observed() -> None:
    objects = resources.build(service(autoscaling={"maxReplicas": 3}), SETTINGS)
    for item in objects:
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("LLMService", "u1", True)
        assert item["metadata"]["labels"]["serving.octavo.dev/service"] == "chat"
    applied = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert applied == [each for each in owned("chat") if each[0] != "ScaledObject"], "in this order"


def test_every_object_is_of_the_version_that_is_watched_and_asked_for() -> None:
    versions = {kind.name: f"{kind.group}/{kind.version}".removeprefix("/") for kind in KINDS}
    for provider in ("builtin", "keda"):
        for item in resources.build(service(autoscaling={"maxReplicas": 3, "provider": provider}), SETTINGS):
            assert item["apiVersion"] == versions[item["kind"]]
