"""How the models say rules that the API server checks too."""

from typing import Any

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel


def cel(rule: str, message: str, field: str = "") -> dict[str, str]:
    """A CEL rule; `message` is a CEL expression too, since it says the value. `field` is relative, as in `.count`.

    Numbers go into messages by format(): the API server estimates the cost of string() as boundless."""
    return {"rule": rule, "messageExpression": message} | ({"fieldPath": field} if field else {})


def schema(*rules: dict[str, str], **extra: Any) -> dict[str, Any]:
    """What a field or a model adds to its schema: CEL rules, and whatever else."""
    return ({"x-kubernetes-validations": list(rules)} if rules else {}) | extra


STRICT = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


def strict(*rules: dict[str, str]) -> ConfigDict:
    """The configuration of a model: camelCase, nothing unknown, never changed; `rules` are its CEL rules."""
    return ConfigDict(**STRICT, json_schema_extra=schema(*rules))
