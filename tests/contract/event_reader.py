"""Server-sent events as the tests read them."""

import json
from typing import Any, NamedTuple


class Event(NamedTuple):
    """name: None where the stream names no events; data: its JSON, or [DONE] as text."""

    name: str | None
    data: Any


def events(text: str) -> list[Event]:
    """The events of a whole stream, without its pings and comments."""
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        fields = dict(line.split(": ", 1) for line in lines)
        assert set(fields) <= {"event", "data"}, block
        data = fields["data"]
        found.append(Event(fields.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found
