"""Prompts as OpenAI's clients send them: text, token ids, or a list of either."""

from typing import Any, cast

from pydantic import PlainValidator

from octavo_runtime.server.fields.text import valid_unicode

Prompts = str | list[str] | list[int] | list[list[int]]


def at_most(most: int) -> PlainValidator:
    """The validator of up to `most` prompts. It stands in for pydantic's own, which would test and report four types
    token by token."""

    def checked(value: Any) -> Any:
        items = value if isinstance(value, list) else [value]
        if isinstance(value, list) and items and _all(items, int):
            return value
        if items and _all(items, str):
            for item in items:
                valid_unicode(item)
        elif not (items and _all(items, list) and all(item and _all(item, int) for item in items)):
            raise ValueError(
                "must be a string, a list of strings, a list of token ids or a list of such lists, none empty"
            )
        if len(items) > most:
            raise ValueError(f"must be at most {most} prompts, these are {len(items)}")
        return value

    return PlainValidator(checked, json_schema_input_type=Prompts)


def listed(prompts: Prompts) -> list[str | list[int]]:
    """The prompts one by one, each as text or as token ids."""
    if isinstance(prompts, str):
        return [prompts]
    if isinstance(prompts[0], int):  # then all are, and there may be a million
        return [prompts]
    return list(cast("list[str | list[int]]", prompts))


def _all(items: list[Any], kind: type) -> bool:
    return set(map(type, items)) == {kind}
