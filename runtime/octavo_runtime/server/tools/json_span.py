"""Where a JSON object ends, in text that comes in pieces."""

import re
from typing import NamedTuple

_MARKS = re.compile(r'["{}\[\]<]')
_IN_STRING = re.compile(r'["\\]')


class Reach(NamedTuple):
    """How far an object goes in a piece of text. ended: whether it ends there; broken: there is what no JSON has."""

    length: int
    ended: bool = False
    broken: bool = False


class JsonSpan:
    """One object. Brackets and strings alone are looked at: what else is in it is for its reader to judge.

    depth: how many brackets are open already."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def add(self, text: str) -> Reach:
        """Takes the next piece."""
        place = 0
        while place < len(text):
            if self._escaped:
                self._escaped = False
                place += 1
                continue
            match = (_IN_STRING if self._in_string else _MARKS).search(text, place)
            if match is None:
                break
            place, mark = match.end(), match[0]
            if mark == "\\":
                self._escaped = True
            elif mark == '"':
                self._in_string = not self._in_string
            elif mark == "<":
                return Reach(match.start(), broken=True)
            else:
                self._depth += 1 if mark in "{[" else -1
                if self._depth == 0:
                    return Reach(place, ended=True)
        return Reach(len(text))
