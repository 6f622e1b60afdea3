"""The types of a pod template's fields, as Kubernetes' own models say them. Read by `make generate` alone: the operator
itself loads what that wrote, pod_template.json."""

import json
import re
from typing import Any

from kubernetes.aio import client

ROOT = "V1PodTemplateSpec"
# Plain strings to the client's models, though Kubernetes takes numbers for them.
_QUANTITIES = ("limits", "requests", "overhead", "size_limit", "divisor")


def pod_template_types() -> str:
    """JSON: model -> field -> type, for every model that a pod template can hold; one model a line.

    A type is str, int, bool, datetime, intOrString, quantity, quantities (a map of them), strings (a map of them), the
    name of a model, or one of these with [] for a list."""
    found: dict[str, dict[str, str]] = {}
    _collect(ROOT, found)
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _collect(name: str, found: dict[str, dict[str, str]]) -> None:
    model: Any = getattr(client, name)
    found[name] = {}
    for attribute, type_ in sorted(model.openapi_types.items()):
        if attribute == "managed_fields":
            continue  # written by the API server alone
        inner = re.sub(r"^List\[(.*)\]$", r"\1", type_)
        if attribute in _QUANTITIES:
            word = "quantity" if inner == "str" else "quantities"
        elif inner == "Dict[str, str]":
            word = "strings"
        elif inner == "object":
            word = "intOrString"
        else:
            word = inner
        found[name][model.attribute_map[attribute]] = word + ("[]" if inner != type_ else "")
        if hasattr(getattr(client, word, None), "openapi_types") and word not in found:
            _collect(word, found)
