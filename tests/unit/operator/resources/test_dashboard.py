"""The Grafana dashboard, and its queries."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from built import built, service

from octavo_operator.resources import dashboard
from octavo_runtime.protocol.metrics import METRICS


def test_dashboard_shows_this_service_alone() -> None:
    config = built("ConfigMap")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    (content,) = config["data"].values()
    board = json.loads(content)
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert expressions
    for expression in expressions:
        assert '{namespace="default",pod=~"chat-[^-]+-[^-]+"}' in expression
        assert expression.count("(") == expression.count(")")
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)


def test_dashboard_queries_fit_the_type_of_the_metric() -> None:
    board = dashboard.dashboard(service())
    expressions = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    for metric in METRICS:
        if metric.name not in expressions:
            continue
        if metric.type == "counter":
            assert f"rate({metric.name}{{" in expressions
        elif metric.type == "histogram":
            assert f"rate({metric.name}_bucket{{" in expressions
        else:
            assert f"rate({metric.name}" not in expressions


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")
def test_dashboard_queries_are_promql(tmp_path: Path) -> None:
    board = dashboard.dashboard(service())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"panel:{index}", "expr": expression.replace("$__rate_interval", "1m")}
        for index, expression in enumerate(expressions)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
