"""status: what the operator observed."""

from typing import Literal

from pydantic import BaseModel, Field

from octavo_operator.api.rules import STRICT


class Condition(BaseModel):
    model_config = STRICT

    type: str = Field(max_length=316, description="Valid, Available, Progressing, Ready, ScalingActive or Stalled.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(max_length=1024, description="Why, in one CamelCase word.")
    message: str = Field(max_length=32768, description="Why, in words, and what to do about it.")
    last_transition_time: str = Field(
        description="When the status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(description="The metadata.generation that this condition speaks of.")


class LLMServiceStatus(BaseModel):
    model_config = STRICT

    observed_generation: int = Field(
        -1,
        description="The metadata.generation that this status speaks of; -1 until it was looked at.",
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Valid, Available, Progressing and Ready; ScalingActive with spec.autoscaling; Stalled where "
        "only a person can go on.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    url: str | None = Field(None, description="Base URL for OpenAI clients inside the cluster.")
    replicas: int = Field(
        0, description="Pods that exist, those of a rollout's former spec among them; an autoscaler reads it."
    )
    ready_replicas: int = Field(0, description="Pods that answer requests.")
    readiness: str | None = Field(None, description="Pods that answer, of those wanted, such as 1/2.")
    selector: str | None = Field(None, description="Label selector of the pods.")
