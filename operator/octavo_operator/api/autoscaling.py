"""spec.autoscaling: let the load decide the number of pods."""

from typing import Self

from pydantic import BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.rules import STRICT, cel, strict


class TargetsSpec(BaseModel):
    model_config = STRICT

    cpu_utilization: int = Field(
        80,
        ge=1,
        le=1000,
        description="CPU use to keep, in percent of resources.cpu, as an average over the replicas. Default 80.",
    )


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
    targets: TargetsSpec = Field(default_factory=TargetsSpec, description="What decides. Default: cpuUtilization 80.")

    @validates(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas must be at most maxReplicas ({self.max_replicas}), got {self.min_replicas}")
        return self
