"""Values as programs write them: Python's literals, which are JSON's but for a few names and quotes."""

import ast
from typing import Any

_OPEN, _CLOSE = "([{", ")]}"


def literal(text: str) -> Any:
    """The value that a text is in JSON's types. Raises ValueError where it is none."""
    try:
        value = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError("no literal") from None
    return _of_json(value)


class LiteralSpan:
    """How far one value goes in text that comes in pieces: up to a comma or a closing bracket that are not its own."""

    def __init__(self) -> None:
        self._depth = 0
        self._quote = ""
        self._escaped = False

    def add(self, text: str) -> int | None:
        """Takes the next piece; the place in it where the value is over, None where it goes on."""
        for place, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quote:
                self._escaped = character == "\\"
                self._quote = "" if character == self._quote else self._quote
            elif character in "\"'":
                self._quote = character
            elif character in _OPEN:
                self._depth += 1
            elif character in _CLOSE or character == ",":
                if self._depth == 0:
                    return place
                self._depth -= character != ","
        return None


def _of_json(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value
        case list() | tuple():
            return [_of_json(one) for one in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _of_json(one) for key, one in value.items()}
        case _:
            raise ValueError("no JSON")
