"""null in the bodies of requests and answers."""

from typing import Any

from pydantic import model_validator


def is_null(value: object) -> bool:
    """For `exclude_if` of a field that an answer leaves out rather than sends as null."""
    return value is None


def without_nulls(value: Any, values: frozenset[str]) -> Any:
    """`value` without fields that are null, at every level; values: names of fields in which null is a value."""
    if isinstance(value, dict):
        return {
            name: one if name in values else without_nulls(one, values)
            for name, one in value.items()
            if one is not None
        }
    return [without_nulls(one, values) for one in value] if isinstance(value, list) else value


def _without_nulls(value: Any) -> Any:
    return {name: one for name, one in value.items() if one is not None} if isinstance(value, dict) else value


null_is_absent = model_validator(mode="before")(_without_nulls)
"""For a model in which a field that is null is as good as left out, as OpenAI has it, whatever type the field has."""
