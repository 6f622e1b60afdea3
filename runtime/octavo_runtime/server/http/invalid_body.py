"""What pydantic finds wrong with the body of a request, as one error that names field, rule and value."""

from collections.abc import Sequence
from typing import Any

from octavo_runtime.server.fields.rule import BROKEN_RULE
from octavo_runtime.server.http.errors import ApiError, invalid

_TYPE_NAMES = ("str", "int", "float", "bool")


def invalid_body(errors: Sequence[Any], content_type: str | None = None) -> ApiError:
    """The error of a body that breaks rules. errors: pydantic's; the first step of a path is the body."""
    # Where a field may have several types each of them reports; the report from deepest inside fits the value best, and
    # then one of a bound, which knows the type.
    error = max(errors, key=lambda error: (len(error["loc"]), not error["type"].endswith("_type")))
    kind, place = error["type"], error["loc"][1:]
    if kind == "json_invalid":
        return invalid(None, f"the body is not valid JSON: {error['ctx']['error']} at character {place[0]}")
    if not place and kind == "missing":
        return invalid(None, "the body must be a JSON object, sent with Content-Type: application/json, got nothing")
    if not place and isinstance(error["input"], bytes):
        told = f"the body must be JSON, sent with Content-Type: application/json, got {content_type!r:.100}"
        return invalid(None, told)
    if not place and kind in ("model_attributes_type", "model_type", "dict_type"):
        return invalid(None, f"the body must be a JSON object, got {_shown(error['input'])}")
    if not place and kind == "string_unicode":
        return invalid(None, f"field names must be valid Unicode, got {_shown(error['input'])}")
    last = len(place) - 1
    path = [str(part)[:100] for at, part in enumerate(place) if not _names_type(part, last=at == last)]
    if kind == BROKEN_RULE:
        return invalid(".".join([*path, error["ctx"]["field"]]), error["ctx"]["reason"])
    return invalid(".".join(path) or None, _reason(error))


def _reason(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown field"
    if error["type"] == "missing":
        return "required"
    message = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"].removeprefix("Input ")
    got = "" if ", got " in message else f", got {_shown(error['input'])}"
    return f"{message[0].lower()}{message[1:]}{got}"


def _names_type(part: str | int, *, last: bool) -> bool:
    """Whether a part of a place is one of the types that a field may have, such as a class, and no field."""
    text = str(part)
    return text in _TYPE_NAMES or "[" in text or (text[:1].isupper() and not last)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= 100 else text[:100] + "..."
