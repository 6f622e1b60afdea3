"""spec.accelerator: what the model runs on."""

from typing import Literal

from pydantic import BaseModel, Field

from octavo_operator.api.rules import STRICT


class AcceleratorSpec(BaseModel):
    model_config = STRICT

    type: Literal["cpu", "nvidia"] = Field("cpu", description="What the model runs on: cpu or nvidia. Default cpu.")
    count: int = Field(
        1, ge=1, le=1, description="Devices of one replica; the engine runs on one. Ignored for cpu. Default 1."
    )
