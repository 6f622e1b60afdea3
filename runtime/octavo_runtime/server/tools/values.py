"""Arguments that a model writes as plain text, as JSON: the function's schema says what a text means."""

import json
from collections.abc import Mapping
from typing import Any

from octavo_runtime.server.fields.text import encodable
from octavo_runtime.server.tools.literal import literal

STRING = frozenset({"string"})

_DEEPEST = 16  # references to other schemas, one within another
_NAMES = {"True": "true", "False": "false", "None": "null"}  # as templates in Python's hands write them
_LITERALS = {name: literal for literal, name in _NAMES.items()}
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def kinds_of(function: Mapping[str, Any], argument: str) -> frozenset[str] | None:
    """The JSON types that an argument of a function may have by the schema of its arguments; None: any."""
    properties = function.get("properties")
    schema = properties.get(argument) if isinstance(properties, dict) else None
    return _kinds(schema, function, _DEEPEST)


def as_json(text: str, kinds: frozenset[str] | None) -> str:
    """The JSON of a value that may have these types. What reads as none of them is a string."""
    if kinds == STRING:
        return _dumped(text)
    try:
        value = json.loads(_NAMES.get(text.strip(), text))
        if kinds is not None and "string" in kinds and not _is_of(value, kinds):
            value = text
        return _dumped(value)
    except (ValueError, RecursionError):
        return _dumped(text) if kinds is None or "string" in kinds else literal_json(text)


def literal_json(text: str) -> str:
    """The JSON of a value as programs write it; what is none is a string."""
    try:
        return _dumped(literal(_LITERALS.get(text.strip(), text)))
    except (ValueError, RecursionError):
        return _dumped(text)


def _dumped(value: Any) -> str:
    return encodable(json.dumps(value, ensure_ascii=False, allow_nan=False))


def _is_of(value: Any, kinds: frozenset[str]) -> bool:
    kind = "null" if value is None else _KINDS[type(value)]
    return kind in kinds or (kind == "integer" and "number" in kinds)


def _kinds(schema: Any, root: Mapping[str, Any], depth: int) -> frozenset[str] | None:
    if not isinstance(schema, dict) or depth == 0:
        return None
    said = schema.get("type")
    if isinstance(said, str):
        return frozenset({said})
    if isinstance(said, list):
        return frozenset(one for one in said if isinstance(one, str))
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        return frozenset("null" if value is None else _KINDS.get(type(value), "string") for value in values)
    if "$ref" in schema:
        return _kinds(_referred(schema["$ref"], root), root, depth - 1)
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list):
            found = [_kinds(one, root, depth - 1) for one in schema[name]]
            return None if None in found else frozenset().union(*(one for one in found if one is not None))
    for one in schema["allOf"] if isinstance(schema.get("allOf"), list) else ():
        if (kinds := _kinds(one, root, depth - 1)) is not None:
            return kinds
    return None


def _referred(reference: Any, root: Mapping[str, Any]) -> Any:
    """The schema that a reference within the root names; None where it names none."""
    found: Any = root
    for step in str(reference).removeprefix("#/").split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found
