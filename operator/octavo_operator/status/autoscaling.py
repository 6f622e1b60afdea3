"""Whether a service's autoscaler works: what it says itself, and what the operator knows of its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from octavo_operator.status.condition import Holding, is_true, words

Object = dict[str, Any]

STARTING = "Starting"
FAILED = "AutoscalingFailed"
METRICS_FOUND = "MetricsFound"
METRICS_API_UNAVAILABLE = "MetricsApiUnavailable"
NO_METRIC = "NoMetric"

SETTLES = 120  # seconds; before that an autoscaler has no figures of new pods


@dataclass(frozen=True)
class Metrics:
    """What builtin autoscaling knows of the engine's metrics. `trouble`: why none of them gets to the autoscaler;
    `silent`: the metrics that no pod says, and why, in words."""

    trouble: str | None
    silent: Mapping[str, str]


def held(autoscaler: Object | None, metrics: Metrics | None) -> Holding:
    """The condition ScalingActive: whether the autoscaler has what it decides by. `metrics`: None where the operator
    brings none."""
    if metrics is not None and metrics.trouble is not None:
        return False, METRICS_API_UNAVAILABLE, metrics.trouble
    if metrics is not None and metrics.silent:
        return False, NO_METRIC, "; ".join(f"no {metric}: {why}" for metric, why in metrics.silent.items())
    if autoscaler is None:
        return False, STARTING, "there is no autoscaler yet"
    told = {item["type"]: item for item in autoscaler.get("status", {}).get("conditions", [])}
    needed = ("Ready",) if autoscaler["kind"] == "ScaledObject" else ("AbleToScale", "ScalingActive")
    for type_ in needed:
        if told.get(type_, {}).get("status") == "False":
            return False, FAILED, words(told[type_])
    if not all(told.get(type_, {}).get("status") == "True" for type_ in needed):
        return False, STARTING, f"{autoscaler['kind']} {autoscaler['metadata']['name']} has not looked yet"
    return True, METRICS_FOUND, "every target has a value"


def has_failed_for_long(autoscaler: Object, now: str) -> bool:
    """Whether an autoscaler says that it cannot work, and has said so for a while."""
    for condition in autoscaler.get("status", {}).get("conditions", []):
        if condition["type"] not in ("AbleToScale", "ScalingActive", "Ready") or condition["status"] != "False":
            continue
        since = datetime.fromisoformat(condition.get("lastTransitionTime", now))
        if (datetime.fromisoformat(now) - since).total_seconds() >= SETTLES:
            return True
    return False


def is_ready(scaled_object: Object) -> bool:
    """Whether KEDA says that a ScaledObject works."""
    return is_true(scaled_object.get("status", {}), "Ready")
