"""Service levels: from the objectives that the operator tells of (spec.slo) to what is left of the error budget, and
the alerts on how fast it goes.

The alerts are those of Google's SRE workbook, chapter 5 (multi-window, multi-burn-rate), for a budget of 30 days.
"""

from dataclasses import dataclass

from pydantic.alias_generators import to_camel

from octavo_operator.api.slo import HISTOGRAMS
from octavo_operator.monitoring import promql
from octavo_operator.monitoring.alerts import Alert
from octavo_operator.monitoring.promql import SERVICE
from octavo_operator.monitoring.recording_rules import REQUESTS, RecordingRule
from octavo_runtime.protocol.metrics import LLMSERVICE_SLO_RATIO, Metric

PERIOD = "30d"
_OBJECTIVE = f"{SERVICE}, slo"
# Nobody calls: no failures then, rather than 0 / 0. One request in 30 days is 4e-7 a second.
_LEAST = "1e-9"
# While the operator starts anew nobody tells of objectives.
_REMEMBERED = "10m"


def _promised(slo: str) -> str:
    return f'last_over_time({LLMSERVICE_SLO_RATIO.name}{{slo="{slo}"}}[{_REMEMBERED}])'


def _good(slo: str, histogram: Metric) -> str:
    buckets = promql.bucket_rate(histogram)
    # Of two bounds, while the objective has just been changed, the wider one.
    return f"max by ({SERVICE}) ({buckets} and on ({SERVICE}, le) {_promised(slo)})"


def _of_histogram(field: str, histogram: Metric) -> tuple[RecordingRule, RecordingRule]:
    slo = to_camel(field)
    count = promql.count_rate(histogram)
    labels = (("slo", slo),)
    return (
        RecordingRule(EVENTS, f"{count} and on ({SERVICE}) {_promised(slo)}", labels),
        RecordingRule(FAILURES, f"{count} - on ({SERVICE}) {_good(slo, histogram)}", labels),
    )


def _of_availability() -> tuple[RecordingRule, RecordingRule]:
    """What clients broke off or got wrong is no failure of the service, and no success either."""
    labels = (("slo", "availability"),)
    promised = f"and on ({SERVICE}) {_promised('availability')}"
    counted = f'sum by ({SERVICE}) ({REQUESTS.name}{{status=~"success|error"}})'
    failed = f'sum by ({SERVICE}) ({REQUESTS.name}{{status="error"}})'
    return (
        RecordingRule(EVENTS, f"{counted} {promised}", labels),
        RecordingRule(FAILURES, f"{failed} {promised}", labels),
    )


EVENTS = "llmservice:octavo_slo_events:rate5m"
FAILURES = "llmservice:octavo_slo_failures:rate5m"
OBJECTIVE = RecordingRule(
    "llmservice:octavo_slo_ratio:max",
    f"max by ({_OBJECTIVE}) (last_over_time({LLMSERVICE_SLO_RATIO.name}[{_REMEMBERED}]))",
)


def _burn(window: str) -> RecordingRule:
    """How many times faster than in 30 days the budget goes: the share that failed, by the share that may."""
    failures, events = (
        (FAILURES, EVENTS)
        if window == "5m"
        else (f"avg_over_time({FAILURES}[{window}])", f"avg_over_time({EVENTS}[{window}])")
    )
    expr = f"{failures} / clamp_min({events}, {_LEAST}) / on ({_OBJECTIVE}) (1 - {OBJECTIVE.name})"
    return RecordingRule(f"llmservice:octavo_slo_burn:ratio{window}", expr)


@dataclass(frozen=True)
class _Speed:
    long: str
    short: str
    factor: float
    hold: str  # how long it must hold
    severity: str
    budget: str  # that is gone within the long window at this speed


_SPEEDS = (
    _Speed("1h", "5m", 14.4, "2m", "critical", "2%"),
    _Speed("6h", "30m", 6, "15m", "critical", "5%"),
    _Speed("1d", "2h", 3, "1h", "warning", "10%"),
    _Speed("3d", "6h", 1, "3h", "warning", "10%"),
)
_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_BURNS = {window: _burn(window) for window in _WINDOWS}

SLO_RULES = (
    OBJECTIVE,
    *(rule for field, histogram in HISTOGRAMS.items() for rule in _of_histogram(field, histogram)),
    *_of_availability(),
    *_BURNS.values(),
)

# Thirty days of five minutes are 8640 values of a service's objective.
_HOURLY_EVENTS, _HOURLY_FAILURES = (
    RecordingRule(rate.replace("rate5m", "rate1h"), f"avg_over_time({rate}[1h])") for rate in (EVENTS, FAILURES)
)
BUDGET_LEFT = RecordingRule(
    f"llmservice:octavo_slo_budget_left:ratio{PERIOD}",
    f"1 - avg_over_time({_HOURLY_FAILURES.name}[{PERIOD}])"
    f" / clamp_min(avg_over_time({_HOURLY_EVENTS.name}[{PERIOD}]), {_LEAST})"
    f" / on ({_OBJECTIVE}) (1 - {OBJECTIVE.name})",
)
BUDGET_RULES = (_HOURLY_EVENTS, _HOURLY_FAILURES, BUDGET_LEFT)

BURN_HOUR = _BURNS["1h"]

SLO_ALERTS = tuple(
    Alert(
        "OctavoErrorBudgetBurn",
        f"{_BURNS[speed.long].name} > {speed.factor} and {_BURNS[speed.short].name} > {speed.factor}",
        speed.hold,
        speed.severity,
        summary="{{ $labels.namespace }}/{{ $labels.llmservice }} breaks its objective {{ $labels.slo }}",
        description=f"It fails {{{{ $value | humanize }}}} times as often as spec.slo allows. "
        f"At {speed.factor} times, {speed.budget} of the {PERIOD[:-1]} days' error budget go in {speed.long}.",
        labels=(("long", speed.long), ("short", speed.short)),
    )
    for speed in _SPEEDS
)
