"""spec.podTemplate: the last resort."""

from typing import Any

from pydantic import BaseModel, Field

from octavo_operator.api.rules import STRICT


class PodTemplate(BaseModel):
    model_config = STRICT

    metadata: dict[str, Any] = Field(default_factory=dict, description="Labels and annotations. Default: none.")
    spec: dict[str, Any] = Field(
        default_factory=dict,
        description="Any field of a pod's spec; `kubectl explain pod.spec` lists them. Default: none.",
    )
