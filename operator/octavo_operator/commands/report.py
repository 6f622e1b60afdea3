"""The same as JSON: a form that stays, told in docs/day-two.md. A further field may come; none goes or changes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from octavo_operator.commands.checklist import Item
from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.load import Load

WHY, CHECK = "octavo.why/v1", "octavo.check/v1"


def findings(evidence: Evidence, load: Load | None, found: Sequence[Finding]) -> dict[str, Any]:
    """What `octavo why -o json` prints."""
    return _head(WHY, evidence) | {
        "ready": len(evidence.ready),
        "wanted": evidence.wanted,
        "figures": None if load is None else _finite(asdict(load)),
        "findings": [
            {
                "rule": finding.rule,
                "severity": finding.severity,
                "summary": finding.summary,
                "evidence": finding.evidence,
                "advice": finding.advice,
                "change": {"spec": dict(finding.change)} if finding.change else None,
                "docs": finding.more,
            }
            for finding in found
        ],
    }


def checklist(evidence: Evidence, items: Sequence[Item]) -> dict[str, Any]:
    """What `octavo check -o json` prints."""
    counts = Counter(item.verdict for item in items)
    return _head(CHECK, evidence) | {
        "summary": {verdict: counts[verdict] for verdict in ("pass", "warn", "fail", "unknown")},
        "items": [
            {
                "section": item.section,
                "name": item.name,
                "verdict": item.verdict,
                "evidence": item.outcome.evidence,
                "fix": item.outcome.fix,
            }
            for item in items
        ],
    }


def _head(schema: str, evidence: Evidence) -> dict[str, Any]:
    return {
        "schema": schema,
        "namespace": evidence.namespace,
        "service": evidence.name,
        "time": evidence.now.isoformat(timespec="seconds"),
        "unread": dict(sorted(evidence.unread.items())),
    }


def _finite(value: Any) -> Any:
    """JSON knows no infinity: a latency beyond its histogram is null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
