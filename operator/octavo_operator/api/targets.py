"""spec.autoscaling.targets: what decides the number of replicas, and the metric of the engine that tells it."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic.alias_generators import to_camel

from octavo_operator.api.rules import STRICT, cel, schema
from octavo_runtime.config.units import Duration, parse_duration
from octavo_runtime.protocol import metrics
from octavo_runtime.protocol.metrics import Metric

USUAL_CPU_UTILIZATION = 80
# As far as the buckets of the engine's histograms tell.
_LONGEST_ANSWER = "10m"
_LONGEST_TTFT = "1m"
_LONGEST_ITL = "2s"


def _at_most(longest: str) -> AfterValidator:
    def check(text: str) -> str:
        if not 0 < parse_duration(text) <= parse_duration(longest):
            raise ValueError(f"must be more than 0s and at most {longest}, got {text!r}")
        return text

    return AfterValidator(check)


def _bounded(longest: str) -> dict[str, Any]:
    """What the schema says of a duration of at most `longest`."""
    return schema(
        cel(
            f"!self.matches('^[0-9]+(ms|s|m|h)$') || "
            f"(duration(self) > duration('0s') && duration(self) <= duration('{longest}'))",
            f"'must be more than 0s and at most {longest}, got ' + self",
        ),
        maxLength=8,  # CEL cannot read a duration of 300 years
    )


class TargetsSpec(BaseModel):
    model_config = STRICT

    gpu_utilization: int | None = Field(
        None, ge=1, le=100, description="Share of the time that the GPUs work, in percent. Default: none."
    )
    p99_latency: Annotated[Duration, _at_most(_LONGEST_ANSWER)] | None = Field(
        None,
        description="Time from a request to the end of its answer that 99 of 100 keep to, such as 2s. Default: none.",
        json_schema_extra=_bounded(_LONGEST_ANSWER),
    )
    ttft_p99: Annotated[Duration, _at_most(_LONGEST_TTFT)] | None = Field(
        None,
        description="Time from a request to its first token that 99 of 100 keep to, such as 500ms. Default: none.",
        json_schema_extra=_bounded(_LONGEST_TTFT),
    )
    itl_p99: Annotated[Duration, _at_most(_LONGEST_ITL)] | None = Field(
        None,
        description="Time from one token of an answer to the next that 99 of 100 keep to, such as 50ms. Default: none.",
        json_schema_extra=_bounded(_LONGEST_ITL),
    )
    queue_depth: int | None = Field(
        None, ge=1, le=10**6, description="Requests that wait for a place in the engine's steps. Default: none."
    )
    running_requests: int | None = Field(
        None, ge=1, le=10**6, description="Requests that the engine computes in its steps. Default: none."
    )
    kv_cache_usage: int | None = Field(
        None, ge=1, le=100, description="Share of the KV cache that requests hold, in percent. Default: none."
    )
    tokens_per_second: int | None = Field(None, ge=1, le=10**9, description="Tokens generated a second. Default: none.")
    cpu_utilization: int | None = Field(
        None,
        ge=1,
        le=1000,
        description=f"CPU use, in percent of resources.cpu. Default: {USUAL_CPU_UTILIZATION} where no other target is "
        "given, else none.",
    )


@dataclass(frozen=True)
class Target:
    """A field of TargetsSpec, and what it is measured by: a gauge of the engine, summed up over its labels where they
    are none but the model's and averaged over GPUs, or a quantile of a histogram."""

    field: str
    metric: Metric
    unit: Literal["count", "percent", "seconds"]
    quantile: float | None = None

    @property
    def name(self) -> str:
        """Of the metric in the custom metrics API."""
        return self.metric.name if self.quantile is None else f"{self.metric.name}_p{self.quantile * 100:.0f}"

    @property
    def path(self) -> str:
        """In the LLMService."""
        return f"spec.autoscaling.targets.{to_camel(self.field)}"

    def amount(self, targets: TargetsSpec) -> Decimal | None:
        """What is asked for, in the metric's own unit; None where nothing is."""
        wanted = getattr(targets, self.field)
        if wanted is None:
            return None
        if self.unit == "seconds":
            return Decimal(str(parse_duration(wanted)))
        return Decimal(wanted) / (100 if self.unit == "percent" else 1)


TARGETS = (
    Target("gpu_utilization", metrics.GPU_UTILIZATION_RATIO, "percent"),
    Target("p99_latency", metrics.REQUEST_DURATION, "seconds", 0.99),
    Target("ttft_p99", metrics.TIME_TO_FIRST_TOKEN, "seconds", 0.99),
    Target("itl_p99", metrics.INTER_TOKEN_LATENCY, "seconds", 0.99),
    Target("queue_depth", metrics.REQUESTS_WAITING, "count"),
    Target("running_requests", metrics.REQUESTS_RUNNING, "count"),
    Target("kv_cache_usage", metrics.KV_CACHE_USAGE_RATIO, "percent"),
    Target("tokens_per_second", metrics.TOKENS_PER_SECOND, "count"),
)


def named(name: str) -> Target | None:
    """The target whose metric has this name."""
    return next((target for target in TARGETS if target.name == name), None)


def of_engine(targets: TargetsSpec) -> list[tuple[Target, Decimal]]:
    """The targets on the engine's own metrics, with what is asked for."""
    amounts = [(target, target.amount(targets)) for target in TARGETS]
    return [(target, amount) for target, amount in amounts if amount is not None]


def of_cpu(targets: TargetsSpec) -> int | None:
    """The target on CPU use, in percent; None where others alone decide."""
    if targets.cpu_utilization is None and not of_engine(targets):
        return USUAL_CPU_UTILIZATION
    return targets.cpu_utilization
