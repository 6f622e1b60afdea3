"""spec.slo: what the service promises, and what that asks of its autoscaler."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from octavo_operator.api.rules import STRICT
from octavo_operator.api.targets import TargetsSpec
from octavo_runtime.config.units import parse_duration
from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.metrics import Metric

PERCENTAGE_PATTERN = r"^[1-9][0-9](\.[0-9]{1,3})?%$"

QUANTILE = 0.99
# Field of SLOSpec -> the histogram that its 99 of 100 are told by.
HISTOGRAMS: Mapping[str, Metric] = {
    "ttft_p99": metrics.TIME_TO_FIRST_TOKEN,
    "itl_p99": metrics.INTER_TOKEN_LATENCY,
}


def _spelled(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds >= 1 else f"{seconds * 1000:.0f}ms"


def _bounds(field: str) -> list[str]:
    return [_spelled(bound) for bound in HISTOGRAMS[field].buckets]


def _one_of(bounds: list[str]) -> AfterValidator:
    """How many answers keep to another time cannot be counted."""

    def check(text: str) -> str:
        if text not in bounds:
            raise ValueError(f"must be one of {', '.join(bounds)}, got {text!r}")
        return text

    return AfterValidator(check)


def _choice(field: str) -> dict[str, Any]:
    return {"enum": _bounds(field)}


class SLOSpec(BaseModel):
    model_config = STRICT

    ttft_p99: Annotated[str, _one_of(_bounds("ttft_p99"))] | None = Field(
        None,
        description="Time from a request to its first token that 99 of 100 keep to, a bound of the metric's buckets. "
        "An autoscaler without a target of that name gets it as one. Default: none.",
        json_schema_extra=_choice("ttft_p99"),
    )
    itl_p99: Annotated[str, _one_of(_bounds("itl_p99"))] | None = Field(
        None,
        description="Time from one token of an answer to the next that 99 of 100 keep to, a bound of the metric's "
        "buckets. An autoscaler without a target of that name gets it as one. Default: none.",
        json_schema_extra=_choice("itl_p99"),
    )
    availability: str | None = Field(
        None,
        pattern=PERCENTAGE_PATTERN,
        description="Share of the requests that do not fail by the server's fault, such as 99.9%. Default: none.",
    )


def bound(slo: SLOSpec, field: str) -> float | None:
    """The bucket's bound, in seconds, that an objective of HISTOGRAMS names; None where there is no such objective."""
    text = getattr(slo, field)
    return None if text is None else parse_duration(text)


def ratio(slo: SLOSpec) -> float | None:
    """The availability promised, from 0 to 1; None where there is none."""
    return None if slo.availability is None else float(slo.availability.removesuffix("%")) / 100


def with_targets(slo: SLOSpec, targets: TargetsSpec) -> TargetsSpec:
    """The targets of an autoscaler, with those of the objectives that it has no target for."""
    lacking = {
        field: promised
        for field in HISTOGRAMS
        if getattr(targets, field) is None and (promised := getattr(slo, field)) is not None
    }
    return targets.model_copy(update=lacking)
