"""Server-sent events as the tests read them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    """name: None where the stream names no events; data: its JSON, or [DONE] as text."""

    name: str | None
    data: Any


def events(text: str) -> list[Event]:
    """The events of a whole stream, without its pings and comments."""
    return list(read(text.split("\n")))


def read(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream line by line, as they come."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, value = line.split(": ", 1)
            assert name in ("event", "data"), line
            assert name not in fields, line
            fields[name] = value
        elif fields:
            data = fields["data"]
            yield Event(fields.get("event"), data if data == "[DONE]" else json.loads(data))
            fields = {}
    assert not fields, f"the stream ends within an event: {fields}"
