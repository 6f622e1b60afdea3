"""What the builders make is what Kubernetes knows, in every version that is supported: no field that it would drop, and
none of another type. By Kubernetes' own published schemas; KEDA's ScaledObject has none there."""

from typing import Any

import kubernetes_validate
import pytest
from built import SETTINGS
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from random_specs import usual_specs

from octavo_operator import api, resources

VERSIONS = ("1.31", "1.32", "1.33", "1.34")
METADATA = {"namespace": "default", "name": "chat", "uid": "1-2", "generation": 1}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(version: str) -> None:
    seen = set()

    @given(usual_specs)
    @hypothesis_settings(max_examples=25, deadline=None)
    def hold(spec: dict[str, Any]) -> None:
        try:
            service = api.parse({"metadata": METADATA, "spec": spec})
        except api.InvalidSpec:
            return
        for item in resources.build(service, SETTINGS):
            if item["kind"] != "ScaledObject":
                kubernetes_validate.validate(item, version, strict=True)
                seen.add(item["kind"])

    hold()
    assert {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "ConfigMap"} <= seen


def test_the_schemas_know_a_field_that_is_wrong() -> None:
    service = api.parse({"metadata": METADATA, "spec": {"model": {"uri": "builtin://smollm2"}}})
    deployment = next(item for item in resources.build(service, SETTINGS) if item["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagee"] = "a"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagee"):
        kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
