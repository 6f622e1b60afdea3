"""The error budget of a service, and the alerts on how fast it goes, run by Prometheus' own promtool."""

from pathlib import Path
from typing import Any

import pytest
from rule_tests import POD, SERVICE, given, promtool

# long window: short window, factor, how long it must hold (minutes), severity
SPEEDS = {
    "1h": ("5m", 14.4, 2, "critical"),
    "6h": ("30m", 6, 15, "critical"),
    "1d": ("2h", 3, 60, "warning"),
    "3d": ("6h", 1, 180, "warning"),
}


def promised(slo: str, ratio: float, le: str = "", steps: int = 300) -> dict[str, str]:
    return {f'octavo_llmservice_slo_ratio{{{SERVICE},slo="{slo}",le="{le}"}}': f"{ratio}x{steps}"}


def requests(*stretches: tuple[int, float]) -> dict[str, str]:
    """Ten thousand requests a step, for (steps, how many of them fail), one stretch after another."""
    failed, total, failures, successes = 0.0, 0.0, [], []
    for steps, share in stretches:
        for _ in range(steps):
            failed, total = failed + share * 10_000, total + 10_000
            failures.append(f"{failed:.0f}")
            successes.append(f"{total - failed:.0f}")
    return {
        f'octavo_requests_total{{{POD},status="error"}}': " ".join(failures),
        f'octavo_requests_total{{{POD},status="success"}}': " ".join(successes),
    }


def firing(time: str, *windows: str) -> dict[str, Any]:
    """Which alerts fire at a time, by their long windows."""
    samples = [
        {
            "labels": f'ALERTS{{alertname="OctavoErrorBudgetBurn",alertstate="firing",{SERVICE},slo="availability",'
            f'long="{long}",short="{SPEEDS[long][0]}",severity="{SPEEDS[long][3]}"}}',
            "value": 1,
        }
        for long in windows
    ]
    query = 'ALERTS{alertname="OctavoErrorBudgetBurn",alertstate="firing"}'
    return {"expr": query, "eval_time": time, "exp_samples": samples}


def value(expr: str, time: str, number: float, **labels: str) -> dict[str, Any]:
    told = ",".join([SERVICE, *(f'{name}="{text}"' for name, text in labels.items())])
    return {"expr": expr, "eval_time": time, "exp_samples": [{"labels": f"{{{told}}}", "value": number}]}


def burning(factor: float) -> dict[str, Any]:
    """A service of 99.9% whose budget goes `factor` times too fast, for two hours, with a scrape a minute."""
    return given(promised("availability", 0.999, steps=300) | requests((240, factor * 0.001)), "1m")


@pytest.mark.parametrize(("long", "speed"), SPEEDS.items())
def test_a_budget_that_goes_too_fast_calls(long: str, speed: tuple[str, float, int, str], tmp_path: Path) -> None:
    _, factor, hold, _ = speed
    slower = [other for other in SPEEDS if SPEEDS[other][1] < factor]
    # Where it has gone so from the start, all windows see the same.
    others = [other for other in slower if SPEEDS[other][2] <= 200]
    promtool(
        tmp_path,
        burning(factor * 1.05) | {"promql_expr_test": [firing("200m", long, *others)]},
        burning(factor * 0.95) | {"promql_expr_test": [firing("200m", *others)]},
        burning(factor * 1.05)
        | {"promql_expr_test": [firing(f"{hold - 1}m", *[one for one in slower if SPEEDS[one][2] < hold])]},
        step="1m",
    )


def test_both_windows_must_see_it(tmp_path: Path) -> None:
    quiet, bad = (300, 0.0), (30, 0.05)  # fifty times too fast, for half an hour
    series = given(promised("availability", 0.999, steps=900) | requests(quiet, bad, (500, 0.0)), "1m")
    during, after = firing("329m", "1h"), firing("350m")
    promtool(tmp_path, series | {"promql_expr_test": [firing("299m"), during, after]}, step="1m")


def test_a_short_burst_calls_nobody(tmp_path: Path) -> None:
    series = given(promised("availability", 0.999, steps=900) | requests((300, 0.0), (3, 0.2), (100, 0.0)), "1m")
    promtool(tmp_path, series | {"promql_expr_test": [firing(f"{minute}m") for minute in range(295, 330)]}, step="1m")


def histogram(name: str, good: int, all_: int) -> dict[str, str]:
    bucket = f"octavo_{name}_seconds"
    return {
        f'{bucket}_bucket{{{POD},le="0.05"}}': f"0+{good}x120",
        f'{bucket}_bucket{{{POD},le="0.5"}}': f"0+{good * 2}x120",
        f'{bucket}_bucket{{{POD},le="+Inf"}}': f"0+{all_}x120",
        f"{bucket}_count{{{POD}}}": f"0+{all_}x120",
    }


def test_latencies_are_counted_by_the_bucket_that_the_objective_names(tmp_path: Path) -> None:
    series = (
        histogram("time_to_first_token", 480, 1000)
        | histogram("inter_token_latency", 980, 1000)
        | promised("ttftP99", 0.99, "0.5", 120)
        | promised("itlP99", 0.99, "0.05", 120)
    )
    burn = "llmservice:octavo_slo_burn:ratio1h"
    checks = [
        value(f'round({burn}{{slo="ttftP99"}}, 0.001)', "60m", 4, slo="ttftP99"),
        value(f'round({burn}{{slo="itlP99"}}, 0.001)', "60m", 2, slo="itlP99"),
        value('round(llmservice:octavo_slo_budget_left:ratio30d{slo="itlP99"}, 0.001)', "60m", -1, slo="itlP99"),
    ]
    promtool(tmp_path, given(series, "1m") | {"promql_expr_test": checks}, step="1m")


def test_without_requests_the_budget_stays_whole(tmp_path: Path) -> None:
    series = promised("availability", 0.999, steps=120) | requests((100, 0.0))
    idle = {name: "0x100" for name in series if "requests" in name}
    check = value("round(llmservice:octavo_slo_budget_left:ratio30d)", "60m", 1, slo="availability")
    promtool(tmp_path, given(series | idle, "1m") | {"promql_expr_test": [check]}, step="1m")


def test_what_clients_broke_off_or_got_wrong_is_no_failure(tmp_path: Path) -> None:
    series = promised("availability", 0.9, steps=120) | requests((100, 0.1))
    series |= {f'octavo_requests_total{{{POD},status="{status}"}}': "0+70x100" for status in ("aborted", "rejected")}
    check = value("round(llmservice:octavo_slo_burn:ratio5m, 0.001)", "60m", 1, slo="availability")
    promtool(tmp_path, given(series, "1m") | {"promql_expr_test": [check]}, step="1m")


def test_without_an_objective_there_is_no_budget(tmp_path: Path) -> None:
    check = {"expr": '{__name__=~"llmservice:octavo_slo.*"}', "eval_time": "60m", "exp_samples": []}
    promtool(tmp_path, given(requests((100, 0.5)), "1m") | {"promql_expr_test": [check]}, step="1m")


def test_the_operators_new_start_is_bridged(tmp_path: Path) -> None:
    """The old pod's series ends, and that of the new one begins a few minutes later."""
    old, new = (
        f'octavo_llmservice_slo_ratio{{{SERVICE},slo="availability",le="",instance="{pod}"}}' for pod in ("a", "b")
    )
    series = requests((90, 0.02)) | {old: "0.999x30 stale", new: "_x38 0.999x50"}
    checks = [firing(f"{minute}m", "1h", "6h") for minute in range(29, 45)]
    promtool(tmp_path, given(series, "1m") | {"promql_expr_test": checks}, step="1m")
