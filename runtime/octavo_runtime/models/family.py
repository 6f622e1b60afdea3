"""A decoder family: what a config.json of one architecture means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.spec import ModelSpec


@dataclass(frozen=True)
class Family:
    """architecture, model_type: as config.json names it. defaults: what transformers takes for fields that are left
    out, where it is not the same for all families. spec: from the fields and the tokens that end an answer."""

    architecture: str
    model_type: str
    defaults: Mapping[str, Any]
    spec: Callable[[ConfigFields, tuple[int, ...]], ModelSpec]
