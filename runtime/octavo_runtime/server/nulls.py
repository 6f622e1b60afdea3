"""null in the body of a request."""

from typing import Any

from pydantic import model_validator


def _without_nulls(value: Any) -> Any:
    return {name: one for name, one in value.items() if one is not None} if isinstance(value, dict) else value


null_is_absent = model_validator(mode="before")(_without_nulls)
"""For a model in which a field that is null is as good as left out, as OpenAI has it, whatever type the field has."""
