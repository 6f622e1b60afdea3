"""Label selectors as they stand in the query of a request."""

import re
from collections.abc import Callable, Mapping

Selects = Callable[[Mapping[str, str]], bool]

_KEY = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_VALUE = r"[A-Za-z0-9._-]*"
_EQUAL = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
# A comma within brackets parts values, one outside of them parts requirements.
_COMMA = re.compile(r",(?![^(]*\))")


def parse(text: str) -> Selects:
    """Whether labels are selected: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`, parted by commas, all of
    which must hold; nothing selects all. ValueError where it is no selector."""
    requirements = [_requirement(part.strip()) for part in _COMMA.split(text)] if text.strip() else []
    return lambda labels: all(holds(labels) for holds in requirements)


def _requirement(text: str) -> Selects:
    if match := _EQUAL.fullmatch(text):
        key, sign, value = match.groups()
        if sign == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _SET.fullmatch(text):
        key, word, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        if word == "notin":
            return lambda labels: labels.get(key) not in values
        return lambda labels: labels.get(key) in values
    if match := _EXISTS.fullmatch(text):
        absent, key = match.groups()
        return lambda labels: (key in labels) != bool(absent)
    raise ValueError(f"labelSelector must be such as app=chat or app in (a,b), got {text!r}")
