"""Every alert and recording rule, run by Prometheus' own promtool."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus import program
from rule_tests import POD, SERVICE, given, promtool

from octavo_operator.monitoring.alerts import ALERTS
from octavo_operator.monitoring.rules import rules


def test_rules_are_sound(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    done = subprocess.run(
        [program("promtool"), "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Case:
    """`loud`: series that make an alert true from the start; `bound`: those that come just up to its bound; `pending`,
    `firing`: before and after it has held for long enough; `says`: the description then."""

    loud: dict[str, str]
    bound: dict[str, str]
    pending: str
    firing: str
    says: str


def requests(success: float, error: float) -> dict[str, str]:
    """How many come in half a minute."""
    return {
        f'octavo_requests_total{{{POD},status="success"}}': f"0+{success}x200",
        f'octavo_requests_total{{{POD},status="error"}}': f"0+{error}x200",
    }


def durations(within_5s: int, within_10s: int) -> dict[str, str]:
    bucket = f"octavo_request_duration_seconds_bucket{{{POD},le=%s}}"
    counts = {"2.0": 0, "5.0": within_5s, "10.0": within_10s, "+Inf": within_10s}
    return {bucket % f'"{bound}"': f"0+{count}x200" for bound, count in counts.items()}


def gauge(name: str, values: str, labels: str = POD) -> dict[str, str]:
    return {f"{name}{{{labels}}}": values}


def preemptions(swaps: int) -> dict[str, str]:
    return {f'octavo_preemptions_total{{{POD},mode="swap"}}': f"0+{swaps}x200"} | requests(3000, 0)


RESTARTS = "octavo_llmservice_pod_restarts_total"
READY, ANSWERING = "octavo_llmservice_ready", "octavo_llmservice_ready_replicas"
STARTING = "octavo_llmservice_starting"

CASES = {
    "OctavoDown": Case(
        gauge(READY, "0x200", SERVICE) | gauge(ANSWERING, "0x200", SERVICE),
        gauge(READY, "1x200", SERVICE) | gauge(ANSWERING, "0x200", SERVICE),  # replicas: 0
        "14m",
        "16m",
        "It is to answer, and no pod of it has for a quarter of an hour.",
    ),
    "OctavoNotReady": Case(
        gauge(READY, "0x200", SERVICE) | gauge(ANSWERING, "2x200", SERVICE),
        gauge(READY, "0x200", SERVICE) | gauge(ANSWERING, "0x200", SERVICE),  # OctavoDown tells of it
        "29m",
        "31m",
        "Pods of it answer (2), and its condition Ready has been False for half an hour.",
    ),
    "OctavoHighLatency": Case(
        durations(300, 600),
        durations(297, 300),
        "4m",
        "8m",
        "One request in a hundred takes longer than 9.9s, more than 5s.",
    ),
    "OctavoHighErrorRate": Case(
        requests(285, 30),
        requests(570, 30),
        "4m",
        "8m",
        "9.524% of the requests fail by the server's fault, more than 5%.",
    ),
    "OctavoLowGPUUtilization": Case(
        gauge("octavo_gpu_utilization_ratio", "0.4x200", POD + ',gpu="0"')
        | gauge("octavo_gpu_utilization_ratio", "0.5x200", POD + ',gpu="1"'),
        gauge("octavo_gpu_utilization_ratio", "0.5x200", POD + ',gpu="0"'),
        "9m",
        "11m",
        "Its GPUs work 45% of the time, less than 50%.",
    ),
    "OctavoQueueGrowth": Case(
        gauge("octavo_requests_waiting", "0+1x200"),
        gauge("octavo_requests_waiting", "0+0.5x200"),
        "9m",
        "12m",
        "Its queue grows by 20 requests in ten minutes, more than 10.",
    ),
    "OctavoKVCacheFull": Case(
        gauge("octavo_kv_cache_usage_ratio", "0.5x200", f'{SERVICE},pod="chat-1-b"')
        | gauge("octavo_kv_cache_usage_ratio", "0.98x200"),
        gauge("octavo_kv_cache_usage_ratio", "0.95x200"),
        "4m",
        "6m",
        "The KV cache of a pod is 98% full, more than 95%.",
    ),
    "OctavoPreemptionStorm": Case(
        preemptions(600),
        preemptions(300),
        "9m",
        "12m",
        "20 preemptions a second: more than one for every ten requests.",
    ),
    "OctavoRestartLoop": Case(
        gauge(RESTARTS, "0+1x20 20x180"),
        gauge(RESTARTS, "0x10 1x10 2x180"),
        "4m",
        "10m",
        "Its engines were started anew 20 times in a quarter of an hour, more than 2.",
    ),
}


def test_every_alert_has_a_case() -> None:
    assert set(CASES) == {alert.name for alert in ALERTS}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alert_fires_once_it_has_held_and_not_at_its_bound(alert: Any, tmp_path: Path) -> None:
    case = CASES[alert.name]
    fired = {
        "exp_labels": {"namespace": "default", "llmservice": "chat", "severity": alert.severity},
        "exp_annotations": {
            "summary": alert.summary.replace("{{ $labels.namespace }}/{{ $labels.llmservice }}", "default/chat"),
            "description": case.says,
            "runbook_url": f"docs/runbooks.md#{alert.name.lower()}",
        },
    }

    def at(time: str, *alerts: dict[str, Any]) -> dict[str, Any]:
        return {"alertname": alert.name, "eval_time": time, "exp_alerts": list(alerts)}

    promtool(
        tmp_path,
        given(case.loud) | {"name": "beyond its bound", "alert_rule_test": [at(case.pending), at(case.firing, fired)]},
        given(case.bound) | {"name": "at its bound", "alert_rule_test": [at("30m"), at("60m"), at("90m")]},
    )


def test_a_first_start_calls_nobody_until_it_fails(tmp_path: Path) -> None:
    series = gauge(READY, "0x200", SERVICE) | gauge(ANSWERING, "0x200", SERVICE)
    series |= gauge(STARTING, "1x79 0x120", SERVICE)
    rule = next(alert for alert in ALERTS if alert.name == "OctavoDown").rule()
    labels = rule["labels"] | {"namespace": "default", "llmservice": "chat"}
    fires = {"exp_labels": labels, "exp_annotations": {"runbook_url": rule["annotations"]["runbook_url"]}}
    fires["exp_annotations"] |= {
        "summary": "default/chat does not answer",
        "description": "It is to answer, and no pod of it has for a quarter of an hour.",
    }
    tests = [
        {"eval_time": time, "alertname": "OctavoDown", "exp_alerts": [fires] if firing else []}
        for time, firing in (("39m", False), ("54m", False), ("56m", True))
    ]
    promtool(tmp_path, given(series) | {"alert_rule_test": tests})


def test_series_without_the_label_of_a_service_are_left_alone(tmp_path: Path) -> None:
    """A Prometheus that scrapes the pods in another way too has each value twice."""
    twice = {name.replace(',llmservice="chat"', ""): values for name, values in requests(300, 300).items()}
    expr = {"expr": "sum(llmservice:octavo_requests:rate5m)", "eval_time": "10m", "exp_samples": [{"value": 20}]}
    promtool(tmp_path, given(requests(300, 300) | twice) | {"promql_expr_test": [expr]})


def test_quiet_service_raises_nothing(tmp_path: Path) -> None:
    silent = (
        requests(0, 0) | durations(0, 0) | preemptions(0) | {f'octavo_preemptions_total{{{POD},mode="swap"}}': "0x200"}
    )
    nothing = {"expr": "ALERTS", "eval_time": "60m", "exp_samples": []}
    promtool(tmp_path, given(silent | requests(0, 0)) | {"promql_expr_test": [nothing]})
