"""The dashboards, and their queries."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus import program

from octavo_operator.monitoring.dashboards.board import Board, rendered
from octavo_operator.monitoring.dashboards.fleet import FLEET
from octavo_operator.monitoring.dashboards.service import SERVICE
from octavo_operator.monitoring.rules import rules
from octavo_runtime.protocol.metrics import LLMSERVICE_METRICS, METRICS

BOARDS = (FLEET, SERVICE)


def board(of: Board) -> dict[str, Any]:
    built: dict[str, Any] = json.loads(rendered(of))
    return built


def queries(of: Board) -> list[str]:
    return [target["expr"] for panel in board(of)["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("of", BOARDS, ids=lambda of: of.uid)
def test_panels_stand_beside_each_other(of: Board) -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board(of)["panels"]]
    assert len(set(places)) == len(places)
    assert {x for x, _ in places} == {0, 8, 16}


@pytest.mark.parametrize("of", BOARDS, ids=lambda of: of.uid)
def test_panels_show_what_was_chosen_alone(of: Board) -> None:
    chosen = '{namespace="$namespace",llmservice="$llmservice"}' if of is SERVICE else 'namespace=~"$namespace"'
    for query in queries(of):
        assert chosen in query


def test_queries_fit_the_type_of_the_metric() -> None:
    recorded = [rule["expr"] for group in rules()["groups"] for rule in group["rules"]]
    everything = " ".join([*queries(SERVICE), *recorded])
    for metric in (*METRICS, *LLMSERVICE_METRICS):
        if f"{metric.name}{{" in everything and metric.type == "counter":
            assert f"rate({metric.name}{{" in everything or f"increase({metric.name}{{" in everything
        elif f"{metric.name}_bucket" in everything:
            assert f"rate({metric.name}_bucket{{" in everything
        else:
            assert f"rate({metric.name}" not in everything


@pytest.mark.parametrize("of", BOARDS, ids=lambda of: of.uid)
def test_queries_are_promql(of: Board, tmp_path: Path) -> None:
    asked = [expr.replace("$__rate_interval", "1m") for expr in queries(of)]
    group = {"name": "dashboard", "rules": [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(asked)]}
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [group]}))
    checked = subprocess.run([program("promtool"), "check", "rules", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_line_of_the_fleet_leads_to_its_service() -> None:
    (link,) = board(FLEET)["panels"][0]["fieldConfig"]["defaults"]["links"]
    assert link["url"].startswith(f"/d/{board(SERVICE)['uid']}?var-namespace=")
    variables = {variable["name"] for variable in board(SERVICE)["templating"]["list"]}
    assert {"namespace", "llmservice"} <= variables
