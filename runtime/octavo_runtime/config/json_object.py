"""Settings that are JSON objects, as text."""

import json
from typing import Any


def json_text(value: Any) -> Any:
    """A dict, which Python callers give, as text; what is none as it is."""
    return json.dumps(value) if isinstance(value, dict) else value


def json_object(text: str, example: str) -> dict[str, Any]:
    """The object that a text says. ValueError where it says none; example: one that is."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(f"must be a JSON object such as {example}, got {text!r:.100}")
    return given
