"""Services side by side, and objects that are not theirs."""

import network
import pytest
from client import Client
from kube import Kube, llmservice
from patience import eventually
from target import Target

pytestmark = pytest.mark.cluster


def test_two_services_of_one_name_in_two_namespaces(kube: Kube, other: Kube, client: Client, name: str) -> None:
    for place, served_name in ((kube, "one"), (other, "two")):
        place.apply(llmservice(name, model={"uri": "builtin://smollm2", "servedNames": [served_name]}))
    for place, served_name, unknown in ((kube, "one", "two"), (other, "two", "one")):
        place.wait_ready(name)
        url = f"http://{name}.{place.namespace}.svc/v1"
        assert "Paris" in client.ask(url, served_name)
        with client.load(url, unknown, requests=1) as load:
            (refused,) = load.stop()
        assert "404" in str(refused.error)
        assert unknown in str(refused.error)
    kube.kubectl("delete", "llmservice", name)
    assert other.settled(name)
    assert len(other.pods(name)) == 1


def test_deployment_of_anothers_making_is_left_alone(kube: Kube, name: str) -> None:
    kube.kubectl("create", "deployment", name, "--image=octavo.local/other", "--replicas=0")
    before = kube.get("deployment", name)
    try:
        kube.apply(llmservice(name, replicas=0))
        eventually(lambda: kube.condition(name).get("reason") == "NameConflict", "NameConflict")
        assert f"Deployment {name} exists and is another's; give the LLMService" in kube.condition(name)["message"]
        assert name in kube.kubectl("get", "llmservice")
        assert (kube.get("deployment", name) or {})["spec"] == (before or {})["spec"]
        assert kube.get("service", name) is None
    finally:
        kube.kubectl("delete", "deployment", name)
    eventually(lambda: kube.condition(name).get("reason") == "ScaledToZero", "the conflict is over")


def test_nobody_outside_the_cluster_answers_for_a_service(place: Target, client: Client) -> None:
    if place.name != "own":
        pytest.skip(f"the address range of services is not known for {place.name}")
    unused = network.SERVICE_RANGE.replace(".0.0/16", ".255.254")
    connect = f"import socket; socket.create_connection(({unused!r}, 80), timeout=3)"
    said = client.kube.kubectl("exec", "client", "--", "python", "-c", connect, check=False)
    assert "timed out" in said
