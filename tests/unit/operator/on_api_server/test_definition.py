"""What the API server itself says, by the definition of LLMService."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import ROOT, Kubernetes, llmservice

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
    assert set(found) - set(KEYS) <= {"ephemeralContainers"}
