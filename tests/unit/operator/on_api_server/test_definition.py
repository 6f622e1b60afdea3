"""What the API server itself says, by the definition of LLMService."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from built import pod
from live import ROOT, Kubernetes, llmservice
from patience import eventually

from octavo_operator.resources.overlay import KEYS

pytestmark = pytest.mark.cluster

BAD_SPECS = yaml.safe_load((Path(__file__).parents[1] / "api/bad_specs.yaml").read_text())
AT_APPLY = [case for case in BAD_SPECS if "server" in case]


@pytest.mark.parametrize("case", AT_APPLY, ids=lambda case: yaml.safe_dump(case["spec"], default_flow_style=True)[:80])
def test_bad_spec_is_refused_at_apply(kubernetes: Kubernetes, case: dict[str, Any]) -> None:
    document = llmservice(case.get("name", "bad"), case["spec"])
    said = kubernetes.kubectl("apply", "-f", "-", document=document, check=False)
    assert [word for word in case["server"] if word not in said] == [], said
    assert kubernetes.get("llmservice", case.get("name", "bad")) is None


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_example_is_accepted(kubernetes: Kubernetes, path: Path) -> None:
    said = kubernetes.kubectl("apply", "--dry-run=server", "-f", str(path))
    assert "created" in said


def test_merge_keys_are_those_of_kubernetes(kubernetes: Kubernetes) -> None:
    schemas = json.loads(kubernetes.kubectl("get", "--raw", "/openapi/v3/api/v1"))["components"]["schemas"]
    found = {}
    for kind in ("PodSpec", "Container"):
        for field, schema in schemas[f"io.k8s.api.core.v1.{kind}"]["properties"].items():
            if "x-kubernetes-list-map-keys" in schema:
                found[field] = tuple(schema["x-kubernetes-list-map-keys"])
    ours = {field: keys for field, keys in KEYS.items() if field in found}
    assert ours == {field: found[field] for field in ours}
    # A constraint of the user's replaces those of its topology, strict or not.
    assert set(found) - set(KEYS) <= {"ephemeralContainers", "topologySpreadConstraints"}


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", ["get llmservices"], ["create llmservices", "patch llmservices/scale", "patch llmservices/status"]),
        ("edit", ["list llmservices", "create llmservices", "patch llmservices/scale"], ["patch llmservices/status"]),
        ("admin", ["watch llmservices", "delete llmservices"], ["patch llmservices/status"]),
    ],
)
def test_the_clusters_own_roles_hold_for_services(
    kubernetes: Kubernetes, role: str, may: list[str], may_not: list[str]
) -> None:
    person = f"a-person-who-may-{role}"
    kubernetes.kubectl("create", "rolebinding", person, f"--clusterrole={role}", f"--user={person}")

    def can(what: str) -> bool:
        verb, resource = what.split()
        resource, _, part = resource.partition("/")
        question = ["auth", "can-i", verb, f"{resource}.serving.octavo.dev", f"--as={person}"]
        return kubernetes.kubectl(*question, *([f"--subresource={part}"] if part else []), check=False).strip() == "yes"

    eventually(lambda: all(can(what) for what in may), what=f"{person} may {', '.join(may)}")
    assert [what for what in may_not if can(what)] == []


def test_pods_pass_restricted_pod_security(kubernetes: Kubernetes) -> None:
    kubernetes.kubectl("create", "namespace", "restricted")
    kubernetes.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    secured = pod(
        model={"uri": "pvc://models"}, endpoint={"tlsSecret": {"name": "tls"}}, accelerator={"type": "nvidia"}
    )
    for spec, refused in ((secured, False), (secured | {"hostNetwork": True}, True)):
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "engine"}, "spec": spec}
        command = ["create", "--dry-run=server", "--namespace=restricted", "-f", "-"]
        said = kubernetes.kubectl(*command, document=json.dumps(manifest), check=False)
        assert ("violates PodSecurity" in said) is refused, said
        assert ("created" in said) is not refused, said
