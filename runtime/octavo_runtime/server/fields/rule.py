"""A rule over several fields of a body that does not hold, for validators of the whole body."""

from pydantic_core import PydanticCustomError

BROKEN_RULE = "broken_rule"
"""The type of these errors; their `ctx` holds field and reason."""


def broken_rule(field: str, reason: str) -> PydanticCustomError:
    """The error to raise. field: the path of the one at fault, from where the validator stands."""
    return PydanticCustomError(BROKEN_RULE, "{field}: {reason}", {"field": field, "reason": reason})
