"""Whether a value can fit two JSON schemas, as far as their types and values show: alternatives of a oneOf mostly
differ in a discriminator."""

import json
from typing import Any
from urllib.parse import unquote

_TYPES = frozenset({"null", "boolean", "number", "string", "array", "object"})
_MAX_DEPTH = 8  # of references and schemas looked into
_MAX_LOOKS = 50_000  # at pairs of schemas, for one root: a fraction of a second


class Definitions:
    """The schemas that references within one schema lead to."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self.looks = _MAX_LOOKS
        """How many pairs of schemas may still be compared."""

    def resolve(self, schema: Any) -> Any:
        """What a schema that is a reference leads to, with nothing but annotations beside it; else itself."""
        for _ in range(_MAX_DEPTH):
            target = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(target, str) or not target.startswith("#"):
                return schema
            found: Any = self._root
            for step in unquote(target).split("/")[1:]:
                step = step.replace("~1", "/").replace("~0", "~")
                if isinstance(found, dict) and step in found:
                    found = found[step]
                elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
                    found = found[int(step)]
                else:
                    return schema
            schema = found
        return schema


def values(schema: Any) -> list[Any] | None:
    """The values that `const` or `enum` allow; None where neither is there."""
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if isinstance(schema.get("enum"), list) else None


def disjoint(one: Any, other: Any, definitions: Definitions, depth: int = _MAX_DEPTH) -> bool:
    """Whether it is certain that no value fits both."""
    one, other = definitions.resolve(one), definitions.resolve(other)
    if one is False or other is False:
        return True
    definitions.looks -= 1
    if not isinstance(one, dict) or not isinstance(other, dict) or depth == 0 or definitions.looks < 0:
        return False
    for first, second in ((one, other), (other, one)):
        for keyword, needed in (("anyOf", all), ("oneOf", all), ("allOf", any)):
            parts = first.get(keyword)
            if isinstance(parts, list) and needed(disjoint(part, second, definitions, depth - 1) for part in parts):
                return True
    if not _types(one) & _types(other):
        return True
    ours, theirs = values(one), values(other)
    if ours is not None and theirs is not None:
        return not {_key(value) for value in ours} & {_key(value) for value in theirs}
    if _types(one) == _types(other) == {"object"}:
        return _differ_in_a_property(one, other, definitions, depth)
    return False


def _differ_in_a_property(one: dict[str, Any], other: dict[str, Any], definitions: Definitions, depth: int) -> bool:
    required = {str(name) for side in (one, other) if isinstance(names := side.get("required"), list) for name in names}
    return any(
        disjoint(_property(one, name), _property(other, name), definitions, depth - 1) for name in sorted(required)
    )


def _property(schema: dict[str, Any], name: str) -> Any:
    properties = schema.get("properties")
    if isinstance(properties, dict) and name in properties:
        return properties[name]
    return True if "patternProperties" in schema else schema.get("additionalProperties", True)


def _types(schema: dict[str, Any]) -> frozenset[str]:
    """JSON types that the schema allows; integers are numbers."""
    if (allowed := values(schema)) is not None:
        return frozenset(map(_type_of, allowed))
    named = schema.get("type")
    names = [named] if isinstance(named, str) else named if isinstance(named, list) else _TYPES
    return frozenset("number" if one == "integer" else str(one) for one in names)


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
    return "array" if isinstance(value, list) else "object"


def _key(value: Any) -> str:
    """Equal for equal values: 1 and 1.0 are the same number, and no boolean."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(float(value)) if abs(value) < 2**53 else repr(int(value))
    return json.dumps(value, sort_keys=True)
