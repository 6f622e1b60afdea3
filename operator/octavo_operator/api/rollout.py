"""spec.rollout: how pods are replaced."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from octavo_operator.api.rules import STRICT, cel, schema
from octavo_runtime.config.units import Duration, parse_duration

MAX_DRAIN = "1h"


def _drain(text: str) -> str:
    if parse_duration(text) > parse_duration(MAX_DRAIN):
        raise ValueError(f"must be at most {MAX_DRAIN}, got {text!r}")
    return text


class RolloutSpec(BaseModel):
    model_config = STRICT

    strategy: Literal["auto", "surge", "recreate"] = Field(
        "auto",
        description="Who goes first when a pod is replaced: surge, the new pod is ready before an old one ends, which "
        "takes room for one more; recreate, an old pod ends and makes room, one replica at a time, so that a service "
        "of one replica does not answer meanwhile. auto is surge; where a new pod finds no GPU spare, it goes on as "
        "recreate for several replicas, and waits for one. A single group of pods (accelerator.nodes) ends first in "
        "any case: LeaderWorkerSet makes none beside it. Default auto.",
    )
    drain: Annotated[Duration, AfterValidator(_drain)] = Field(
        "300s",
        description="How long running requests may go on when their pod is replaced, such as 90s or 5m. Default 300s.",
        json_schema_extra=schema(
            cel(
                f"!self.matches('^[0-9]+(ms|s|m|h)$') || duration(self) <= duration('{MAX_DRAIN}')",
                f"'must be at most {MAX_DRAIN}, got ' + self",
            ),
            maxLength=8,  # CEL cannot read a duration of 300 years
        ),
    )
