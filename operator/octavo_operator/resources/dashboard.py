"""Grafana dashboard of a service alone, in a ConfigMap that Grafana's sidecar picks up by its label: the chart's
dashboard, held fast to one service."""

import json
from importlib import resources
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.kinds import CONFIG_MAP
from octavo_operator.resources import metadata


def name(service_name: str) -> str:
    return f"{service_name}{CONFIG_MAP.suffix}"


def build(service: LLMService) -> dict[str, Any]:
    owned = metadata.owned(service, name(service.name))
    owned["labels"] |= {"grafana_dashboard": "1"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owned,
        "data": {f"octavo-{service.namespace}-{service.name}.json": json.dumps(dashboard(service))},
    }


def dashboard(service: LLMService) -> dict[str, Any]:
    """The dashboard in Grafana's JSON model."""
    # Made by `make generate` from octavo_operator.monitoring.dashboards.
    board: dict[str, Any] = json.loads(resources.files(__package__).joinpath("dashboard.json").read_text())
    held = {"namespace": service.namespace, "llmservice": service.name}
    board["templating"]["list"] = [
        _constant(variable["name"], held[variable["name"]]) if variable["name"] in held else variable
        for variable in board["templating"]["list"]
    ]
    title = f"Octavo / {service.namespace} / {service.name}"
    return board | {"uid": f"octavo-{service.uid}"[:40], "title": title, "links": []}


def _constant(name: str, value: str) -> dict[str, Any]:
    return {"type": "constant", "name": name, "query": value, "hide": 2}
