"""spec.autoscaling.behavior: how fast the number of replicas may change, as a HorizontalPodAutoscaler says it."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from octavo_operator.api.rules import STRICT


class ScalingPolicy(BaseModel):
    model_config = STRICT

    type: Literal["Percent", "Pods"] = Field(description="What value counts: Percent or Pods. Required.")
    value: int = Field(ge=1, le=10000, description="The largest change within periodSeconds. Required.")
    period_seconds: int = Field(ge=1, le=1800, description="The time that value holds for. Required.")


class ScalingRules(BaseModel):
    model_config = STRICT

    stabilization_window_seconds: int | None = Field(
        None,
        ge=0,
        le=3600,
        description="How long the load must ask for a change before it is made. Default: 60 up, 300 down.",
    )
    select_policy: Literal["Max", "Min", "Disabled"] | None = Field(
        None, description="Which of several policies counts; Disabled: no change in this direction. Default: Max."
    )
    policies: list[ScalingPolicy] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="How large a change may be. Default: 100 Percent in 30 s up, 50 Percent in 60 s down.",
    )


class BehaviorSpec(BaseModel):
    model_config = STRICT

    scale_up: ScalingRules = Field(
        default_factory=ScalingRules,
        description="More replicas. Default: at most twice as many every 30 s, after 60 s.",
    )
    scale_down: ScalingRules = Field(
        default_factory=ScalingRules, description="Fewer replicas. Default: at most half every 60 s, after 300 s."
    )


_USUAL: dict[str, dict[str, Any]] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 60,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
    },
}


def in_full(behavior: BehaviorSpec) -> dict[str, dict[str, Any]]:
    """The block as an autoscaler takes it: what is left out is as usual."""
    said = behavior.model_dump(by_alias=True, exclude_none=True)
    return {way: usual | said[way] for way, usual in _USUAL.items()}
