"""spec.autoscaling: let the load decide the number of pods."""

from typing import Literal, Self

from pydantic import BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.behavior import BehaviorSpec
from octavo_operator.api.rules import cel, strict
from octavo_operator.api.targets import TargetsSpec


class AutoscalingSpec(BaseModel):
    model_config = strict(
        cel(
            "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
            "'must be at most maxReplicas (%d), got %d'.format([self.maxReplicas, self.minReplicas])",
            ".minReplicas",
        )
    )

    min_replicas: int = Field(1, ge=1, le=1000, description="Fewest replicas. Default 1.")
    max_replicas: int = Field(ge=1, le=1000, description="Most replicas. Required.")
    targets: TargetsSpec = Field(
        default_factory=TargetsSpec,
        description="What to keep, as an average over the replicas; of several the one that asks for most replicas "
        "decides. Default: cpuUtilization 80.",
    )
    behavior: BehaviorSpec = Field(
        default_factory=BehaviorSpec, description="How fast the number changes. Default: each at its own default."
    )
    provider: Literal["builtin", "prometheus-adapter", "keda"] = Field(
        "builtin",
        description="Who brings the engine's metrics to the autoscaler: builtin, the operator itself; "
        "prometheus-adapter, which you run, by the rules in docs/autoscaling.md; keda, a ScaledObject in the place of "
        "the HorizontalPodAutoscaler, on the Prometheus that the operator was told of. Default builtin.",
    )

    @validates(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas must be at most maxReplicas ({self.max_replicas}), got {self.min_replicas}")
        return self
