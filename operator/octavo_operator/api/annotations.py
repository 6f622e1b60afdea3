"""Annotations of the objects that a service owns."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from octavo_operator.api.rules import cel, schema

_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_FORM = "the form of example.com/name"


def _named(annotations: dict[str, str]) -> dict[str, str]:
    for name in annotations:
        if not re.fullmatch(_PATTERN, name):
            raise ValueError(f"names must have {_FORM}, got {name!r}")
    return annotations


Annotations = Annotated[dict[str, Annotated[str, Field(max_length=8192)]], AfterValidator(_named)]


def annotations(description: str) -> Any:
    """A field of Annotations, none by default."""
    return Field(
        default_factory=dict,
        max_length=64,
        description=f"{description} Default: none.",
        json_schema_extra=schema(
            cel(
                f"self.all(name, name.matches(r'{_PATTERN}'))",
                f"'names must have {_FORM}, got ' + self.filter(name, !name.matches(r'{_PATTERN}'))[0]",
            )
        ),
    )
