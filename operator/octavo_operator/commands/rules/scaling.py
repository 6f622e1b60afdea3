"""Autoscaling that does not work."""

from collections.abc import Iterator

from octavo_operator.commands.evidence import Evidence
from octavo_operator.commands.finding import Finding
from octavo_operator.commands.load import Load

SECTION = "autoscaling"


def autoscaler_blind(evidence: Evidence, _load: Load | None) -> Iterator[Finding]:
    """The load is to decide, and nobody sees it."""
    told = evidence.blind_autoscaler
    if not told:
        return
    yield Finding(
        "AutoscalerBlind",
        "warning",
        "autoscaling does not work",
        [f"ScalingActive {told['reason']}: {told['message']}", f"{evidence.wanted} pods are wanted"],
        "docs/autoscaling.md says who brings the metrics (autoscaling.provider) and what each reason means",
        section=SECTION,
    )
