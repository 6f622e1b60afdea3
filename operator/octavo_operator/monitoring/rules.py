"""The rules as Prometheus reads them from a file, and its operator in the spec of a PrometheusRule."""

from typing import Any

from octavo_operator.monitoring.alerts import ALERTS
from octavo_operator.monitoring.recording_rules import RECORDING_RULES
from octavo_operator.monitoring.slo import BUDGET_RULES, SLO_ALERTS, SLO_RULES


def rules() -> dict[str, Any]:
    """All groups. A group's rules are worked out in their order."""
    return {
        "groups": [
            {"name": "octavo-services", "rules": [rule.rule() for rule in RECORDING_RULES]},
            {"name": "octavo-slo", "rules": [rule.rule() for rule in SLO_RULES]},
            {"name": "octavo-slo-budget", "interval": "5m", "rules": [rule.rule() for rule in BUDGET_RULES]},
            {"name": "octavo-alerts", "rules": [alert.rule() for alert in (*ALERTS, *SLO_ALERTS)]},
        ]
    }
