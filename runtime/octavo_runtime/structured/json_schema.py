"""JSON schemas as zod, pydantic and people write them, in the words that llguidance takes.

What cannot be broken by leaving it out is left out, what can be spelt out is, and the rest is refused with its place
(docs/json-schemas.md). llguidance's own words: github.com/guidance-ai/llguidance, docs/json_schema.md."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from octavo_runtime.structured.alternatives import Definitions, disjoint, values
from octavo_runtime.structured.look_around import without_look_around

MAX_OPTIONAL = 240  # properties of one object: each costs the parser four of the items that a step may have
_MAX_ALTERNATIVES = 128  # of a oneOf; they are compared in pairs
_MAX_UNIQUE = 4  # values of an enum whose arrays without repetition are spelt out: 65 of them
_LONGEST_PLACE = 200  # characters that an error shows
_LONGEST_END = 40  # characters of a pattern's end that an error shows
_MAX_BOUND = 10**18  # of a number
_NEAR_MAX = _MAX_BOUND - 64  # the least integer that is _MAX_BOUND as a float
_MAX_COPIES = 2**15  # characters of one schema for each of several names

# What llguidance enforces; any other format is an annotation, as all are by default in JSON Schema.
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}

_DRAFTS = ("http://json-schema.org/draft-0", "https://json-schema.org/draft/20")

# Keywords whose value is a schema, some schemas, and schemas by name.
_ONE = ("items", "additionalItems", "additionalProperties")
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_DEPENDENT = ("dependentRequired", "dependentSchemas", "dependencies")

# Words for people: they say nothing of a value, and are most of what a tool's schema holds.
_ANNOTATIONS = {"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"}
_APPLICATORS = {"$ref", "allOf", "anyOf", "oneOf", "if", *_DEPENDENT}
_REFUSED = ("$dynamicRef", "$recursiveRef", "contains", "if", "not", "unevaluatedItems", "unevaluatedProperties")
_OF_STRINGS = {"pattern", "minLength", "maxLength", "enum", "const", "format", "anyOf", "oneOf", "allOf", "not", "$ref"}
_SHAPES: dict[str, type] = {
    **dict.fromkeys((*_NAMED, *_DEPENDENT), dict),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems", "enum"), list),
    **dict.fromkeys(("minItems", "maxItems", "minLength", "maxLength"), int),
}
_NOUNS = {dict: "an object", list: "an array", int: "an integer"}


class UnsupportedSchema(ValueError):
    """A schema that no grammar can be made of. place: of the keyword at fault, its steps joined by dots."""

    def __init__(self, place: str, reason: str) -> None:
        if len(place) > _LONGEST_PLACE:
            place = f"{place[: _LONGEST_PLACE // 2]}...{place[-_LONGEST_PLACE // 2 :]}"
        super().__init__(f"{place}: {reason}" if place else reason)
        self.place = place
        self.reason = reason


class Adapted(NamedTuple):
    """The schema for llguidance. An answer that keeps to it keeps to the client's, but for the keywords at the places
    in `ignored`."""

    schema: dict[str, Any]
    ignored: list[str]


def subschemas(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas directly inside of a schema, each with its steps joined by dots."""
    for name in _ONE:
        if name in node and not isinstance(node[name], list):
            yield name, node[name]
    for name in _MANY:
        if isinstance(many := node.get(name), list):
            yield from ((_at(name, number), one) for number, one in enumerate(many))
    for name in _NAMED:
        yield from ((_at(name, key), one) for key, one in node.get(name, {}).items())


def adapt(schema: dict[str, Any]) -> Adapted:
    """Raises UnsupportedSchema, and RecursionError where it is nested too deep."""
    adapter = _Adapter(schema)
    return Adapted(adapter.keywords(schema, ""), adapter.ignored)


class _Adapter:
    """Rewrites one schema from the outside in. Subschemas stay where they are, so that references find them."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.ignored: list[str] = []
        self._definitions = Definitions(root)

    def schema(self, node: Any, place: str) -> Any:
        """A subschema, rewritten."""
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            raise UnsupportedSchema(place, f"must be an object or a boolean, got {type(node).__name__}")
        if "not" in node and node["not"] in (True, {}):  # zod's way to allow no value
            return False
        return self.keywords(node, place)

    def keywords(self, node: dict[str, Any], place: str) -> dict[str, Any]:
        """A schema that is an object, rewritten."""
        _check_shapes(node, place)
        node = {name: value for name, value in node.items() if name not in _ANNOTATIONS}
        self._dialect(node)
        self._nullable(node)
        self._bounds(node, place)
        self._conditions(node)
        self._negation(node)
        self._unevaluated(node)
        self._dependencies(node)
        self._format(node, place)
        self._unique_items(node, place)
        self._property_names(node, place)
        self._one_of(node, place)
        self._patterns(node, place)
        self._check(node, place)
        for name in _ONE:
            if name in node and not isinstance(node[name], list):
                node[name] = self.schema(node[name], _at(place, name))
        for name in _MANY:
            if isinstance(many := node.get(name), list):
                node[name] = [self.schema(one, _at(place, name, number)) for number, one in enumerate(many)]
        for name in _NAMED:
            if name in node:
                node[name] = {key: self.schema(one, _at(place, name, key)) for key, one in node[name].items()}
        return node

    # Each of these rewrites the keywords of one object, at its place.

    def _dialect(self, node: dict[str, Any]) -> None:
        """One that llguidance has no vocabulary of is read as the newest draft."""
        if not str(node.get("$schema", "")).startswith(_DRAFTS):
            node.pop("$schema", None)
        if "$dynamicRef" not in node and "$recursiveRef" not in node:
            for name in ("$dynamicAnchor", "$recursiveAnchor"):
                node.pop(name, None)

    def _bounds(self, node: dict[str, Any], place: str) -> None:
        """Those of a float32, say, no closer than what numbers without an exponent are counted to, which leaves nothing
        where all that is allowed lies beyond."""
        numbers = "type" not in node or any(one in ("integer", "number") for one in _types(node))
        for name, sign in (("minimum", -1), ("exclusiveMinimum", -1), ("maximum", 1), ("exclusiveMaximum", 1)):
            bound = node.get(name)
            if not isinstance(bound, int | float) or isinstance(bound, bool):
                continue
            if bound * sign > _MAX_BOUND:
                node[name] = sign * _MAX_BOUND
            # llguidance counts in floats: 10^18 - 1 is 10^18 to it.
            elif numbers and "enum" not in node and "const" not in node and bound * -sign >= _NEAR_MAX:
                rule = "below 10^18" if sign < 0 else "above -10^18"
                raise UnsupportedSchema(_at(place, name), f"must be {rule}, got {bound!s:.100}")

    def _nullable(self, node: dict[str, Any]) -> None:
        """OpenAPI 3.0's way to allow null beside a type."""
        if node.pop("nullable", False) is True and isinstance(node.get("type"), str):
            node["type"] = [node["type"], "null"]

    def _conditions(self, node: dict[str, Any]) -> None:
        """Those that say nothing: halves without the other half."""
        if "if" not in node or not ("then" in node or "else" in node):
            for name in ("if", "then", "else"):
                node.pop(name, None)
        if "contains" not in node or (node.get("minContains") == 0 and "maxContains" not in node):
            for name in ("contains", "minContains", "maxContains"):
                node.pop(name, None)

    def _negation(self, node: dict[str, Any]) -> None:
        """Of nothing at all, and of values that an enum beside it lists."""
        denied = node.get("not")
        if denied is False:
            del node["not"]
        elif (refused := values(denied)) is not None and "enum" in node:
            node["enum"] = [one for one in node["enum"] if not any(_equal(one, other) for other in refused)]
            del node["not"]

    def _unevaluated(self, node: dict[str, Any]) -> None:
        """As the keywords for what is not listed, where every list is known."""
        for keyword in ("unevaluatedProperties", "unevaluatedItems"):
            if keyword in node and node[keyword] in (True, {}):
                del node[keyword]
        if "unevaluatedItems" in node and not _APPLICATORS & node.keys():
            node.setdefault("items", node.pop("unevaluatedItems"))
        if "unevaluatedProperties" not in node or (names := self._listed_properties(node)) is None:
            return
        rule = node.pop("unevaluatedProperties")
        if "additionalProperties" not in node:
            node["properties"] = {**dict.fromkeys(names, True), **node.get("properties", {})}
            node["additionalProperties"] = rule

    def _listed_properties(self, node: Any) -> list[str] | None:
        """The names of all properties that an object and the parts of its allOf list; None where other keywords look at
        properties too."""
        if not isinstance(node, dict) or node.keys() & (_APPLICATORS - {"allOf"}):
            return None
        names = list(node.get("properties", {}))
        for part in map(self._definitions.resolve, node.get("allOf", [])):
            listed = self._listed_properties(part)
            if listed is None or part.keys() & {"additionalProperties", "patternProperties"}:
                return None
            names += listed
        return names

    def _dependencies(self, node: dict[str, Any]) -> None:
        """Either the property is not there, or what depends on it holds."""
        for keyword in _DEPENDENT:
            for name, needed in node.pop(keyword, {}).items():
                schema = {"required": needed} if isinstance(needed, list) else needed
                _also(node, {"anyOf": [{"properties": {name: False}}, schema]})

    def _format(self, node: dict[str, Any], place: str) -> None:
        if "format" in node and node["format"] not in _FORMATS:
            del node["format"]
            if "pattern" in node or "string" not in _types(node):
                return  # zod's names of its own patterns, and OpenAPI's of numbers
            self.ignored.append(_at(place, "format"))

    def _unique_items(self, node: dict[str, Any], place: str) -> None:
        """Nothing in a grammar remembers what an array has had. Where few values are allowed, every array is spelt
        out; elsewhere it is left out: a client that makes a set of the array takes it all the same."""
        if node.pop("uniqueItems", False) is not True or node.get("maxItems") in (0, 1):
            return
        items = node.get("items")
        allowed = values(self._definitions.resolve(items)) if isinstance(items, dict) else None
        if allowed is None or len(allowed) > _MAX_UNIQUE or "enum" in node or "prefixItems" in node:
            self.ignored.append(_at(place, "uniqueItems"))
            return
        arrays = [list(one) for size in range(len(allowed) + 1) for one in itertools.permutations(allowed, size)]
        least, most = node.pop("minItems", 0), node.pop("maxItems", len(allowed))
        node["enum"] = [one for one in arrays if least <= len(one) <= most]
        del node["items"]

    def _property_names(self, node: dict[str, Any], place: str) -> None:
        """As the properties themselves, listed or by a pattern."""
        if "propertyNames" not in node:
            return
        names, place = self._definitions.resolve(node.pop("propertyNames")), _at(place, "propertyNames")
        if names is True:
            return
        if not isinstance(names, dict) or names.get("type", "string") != "string":
            raise UnsupportedSchema(place, "must be a schema of strings")
        rules = {name: rule for name, rule in names.items() if name in _OF_STRINGS}
        if not rules:
            return
        if node.get("properties") or node.get("patternProperties"):
            raise UnsupportedSchema(place, "is not supported beside properties")
        rest, allowed = node.get("additionalProperties", True), values(rules)
        if allowed is not None and len(json.dumps(rest)) * len(allowed) <= _MAX_COPIES:
            node["properties"] = {name: rest for name in allowed if isinstance(name, str)}
        elif allowed is not None:
            node["patternProperties"] = {f"^(?:{'|'.join(re.escape(str(name)) for name in allowed)})$": rest}
        elif rules.keys() == {"pattern"}:
            node["patternProperties"] = {rules["pattern"]: rest}
        elif rules.keys() <= {"minLength", "maxLength"}:
            lengths = f"{rules.get('minLength', 0)},{rules.get('maxLength', '')}"
            node["patternProperties"] = {rf"^[\s\S]{{{lengths}}}$": rest}
        else:
            raise UnsupportedSchema(place, f"is not supported with {' and '.join(rules)}")
        node["additionalProperties"] = False

    def _one_of(self, node: dict[str, Any], place: str) -> None:
        """As anyOf, where no value fits two alternatives."""
        choices, place = node.pop("oneOf", None), _at(place, "oneOf")
        if choices is None:
            return
        if len(choices) > _MAX_ALTERNATIVES:
            raise UnsupportedSchema(place, f"must have at most {_MAX_ALTERNATIVES} alternatives, got {len(choices)}")
        for (first, one), (second, other) in itertools.combinations(enumerate(choices), 2):
            if not disjoint(one, other, self._definitions):
                rule = "must have alternatives that no value fits two of, as their types, constants or required"
                raise UnsupportedSchema(place, f"{rule} properties show; anyOf may overlap; got {first} and {second}")
        if "anyOf" in node:
            _also(node, {"anyOf": choices})
        else:
            node["anyOf"] = choices

    def _patterns(self, node: dict[str, Any], place: str) -> None:
        if isinstance(pattern := node.get("pattern"), str):
            node["pattern"], *others = _without_look_around(pattern, _at(place, "pattern"))
            for other in others:
                _also(node, {"pattern": other})
        names = {}
        for pattern, rest in node.get("patternProperties", {}).items():
            name, *others = _without_look_around(pattern, at := _at(place, "patternProperties", pattern))
            if others:
                raise UnsupportedSchema(at, "look-around is not supported in names")
            names[name] = rest
        if names:
            node["patternProperties"] = names

    def _check(self, node: dict[str, Any], place: str) -> None:
        for name in _REFUSED:
            if name in node:
                raise UnsupportedSchema(_at(place, name), "is not supported")
        target = node.get("$ref", "#")
        if isinstance(target, str) and target != "#" and not target.startswith("#/"):
            raise UnsupportedSchema(
                _at(place, "$ref"), f"must be a place in the schema itself (#/...), got {target:.100}"
            )
        required = node.get("required", [])
        optional = [
            name for name in node.get("properties", {}) if not isinstance(required, list) or name not in required
        ]
        if len(optional) > MAX_OPTIONAL:
            rule = f"must have at most {MAX_OPTIONAL} that are not required"
            raise UnsupportedSchema(_at(place, "properties"), f"{rule}, got {len(optional)}")


def fault_of_end(pattern: str) -> str | None:
    """What is wrong with a regular expression whose last backslash escapes nothing: llguidance takes it to escape a
    sign of its own. None where there is none."""
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 0:
        return None
    return f"must not end in a backslash that escapes nothing, got {pattern[-_LONGEST_END:]!r}"


def _without_look_around(pattern: str, place: str) -> list[str]:
    if cut := fault_of_end(pattern):
        raise UnsupportedSchema(place, cut)
    try:
        return without_look_around(pattern)
    except ValueError as error:
        raise UnsupportedSchema(place, str(error)) from None


def _check_shapes(node: dict[str, Any], place: str) -> None:
    for name, value in node.items():
        expected = _SHAPES.get(name)
        if expected is not None and not isinstance(value, expected):
            raise UnsupportedSchema(_at(place, name), f"must be {_NOUNS[expected]}, got {type(value).__name__}")


def _types(node: dict[str, Any]) -> list[Any]:
    named = node.get("type", "string")
    return named if isinstance(named, list) else [named]


def _also(node: dict[str, Any], schema: dict[str, Any]) -> None:
    node["allOf"] = [*node.get("allOf", []), schema]


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _at(place: str, *steps: object) -> str:
    return ".".join([*([place] if place else []), *map(str, steps)])
