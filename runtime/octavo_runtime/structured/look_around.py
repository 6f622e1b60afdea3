"""Patterns with look-around, spelt out without it: what zod and pydantic write, and what a pattern begins with.

llguidance's regular expressions are automata, which have no look-around (docs.rs/regex, Syntax). Patterns are those of
ECMA-262, as JSON Schema has them."""

import re

# Of zod 4 (github.com/colinhacks/zod, regexes.ts), which later versions write without look-around too: no two dots in a
# row and none at either end before the @; a duration's parts, at least one of them.
_SECONDS = r"\d+(?:[.,]\d+)?S"
_TIME = rf"T(?:\d+H(?:\d+M)?(?:{_SECONDS})?|\d+M(?:{_SECONDS})?|{_SECONDS})"
_DATE = r"(?:\d+Y(?:\d+M)?(?:\d+D)?|\d+M(?:\d+D)?|\d+D)"
_KNOWN = {
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$": (
        r"^(?:[A-Za-z0-9_'+\-]+\.)*[A-Za-z0-9_'+\-]*[A-Za-z0-9_+\-]@(?:[A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
    ),
    r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$": (
        rf"^P(?:\d+W|{_DATE}(?:{_TIME})?|{_TIME})$"
    ),
}

# Of pydantic 2.12 and 2.13, for Decimal: a sign, zeros, then one of three bodies; and at least one digit in all.
_DECIMAL = "^(?!^[-+.]*$)[+-]?0*"
_ANY_PLACES = re.compile(r"\\d\*\\\.\?\\d(?:\*|\{0,(?P<places>\d{1,3})\}0\*)\$")
_DIGITS = re.compile(
    r"\(\?:\\d\{0,(?P<whole>\d{1,3})\}\|\(\?=\[\\d\.\]\{1,(?P<length>\d{1,3})\}0\*\$\)"
    r"\\d(?:\*|\{0,(?P=whole)\})\\\.\\d(?:\*|\{0,(?P<places>\d{1,3})\})0\*\$\)"
)

_TOKENS = re.compile(r"\\(?P<escaped>.)|(?P<around>\(\?(?:=|!|<=|<!))|(?P<mark>[()\[\]|])", re.DOTALL)


def without_look_around(pattern: str) -> list[str]:
    """Patterns without look-around that a text matches, all of them, exactly where it matches `pattern`. ValueError
    where there is no way to it."""
    if pattern in _KNOWN:
        return [_KNOWN[pattern]]
    if pattern.startswith(_DECIMAL) and (decimal := _decimal(pattern.removeprefix(_DECIMAL))) is not None:
        return [decimal]
    patterns = _leading_ahead(pattern)
    for one in patterns:
        for token in _tokens(one):
            if token["around"]:
                raise ValueError("look-around is not supported, but for (?=...) at the beginning")
            if token["escaped"] in ("b", "B"):
                raise ValueError(f"look-around is not supported, and \\{token['escaped']} is that")
    return patterns


def _tokens(pattern: str, start: int = 0) -> list[re.Match[str]]:
    """Escapes, brackets and bars in their order; nothing of what stands in a class."""
    tokens, place, in_class = [], start, False
    while (token := _TOKENS.search(pattern, place)) is not None:
        place = token.end()
        if in_class:
            in_class = token["mark"] != "]"
            place = token.end() if token["mark"] or token["escaped"] else token.start() + 1
            continue
        in_class = token["mark"] == "["
        tokens.append(token)
    return tokens


def _leading_ahead(pattern: str) -> list[str]:
    """^(?=A)(?=B)C as ^(?:A), ^(?:B) and ^C, where no bar stands outside of all groups."""
    patterns, rest = [], pattern
    while rest.startswith("^(?="):
        depth, end = 0, None
        for token in _tokens(rest, start=1):
            if token["around"] or token["mark"] == "(":
                depth += 1
            elif token["mark"] == ")":
                depth -= 1
                if depth == 0 and end is None:
                    end = token.end()
            elif token["mark"] == "|" and depth == 0:
                return [pattern]
        if end is None or rest[end : end + 1] in ("*", "+", "?", "{"):
            return [pattern]
        patterns.append(f"^(?:{rest[len('^(?=') : end - 1]})")
        rest = f"^{rest[end:]}"
    return [*patterns, rest]


def _decimal(body: str) -> str | None:
    """The whole pattern of a Decimal with this body; None where pydantic writes no such body."""
    if match := _ANY_PLACES.fullmatch(body):
        places = match["places"]
        if places is None:
            return r"^[+-]?(?:\d+\.?\d*|\.\d+)$"
        return rf"^[+-]?(?:\d+(?:\.\d{{0,{places}}}0*)?|{_fraction(int(places))})$"
    if (match := _DIGITS.fullmatch(body)) is None:
        return None
    whole, digits = int(match["whole"]), int(match["length"]) - 1
    integer = rf"(?:0+\d{{0,{whole}}}|\d{{1,{whole}}})" if whole else "0+"
    if match["places"] is None:  # so many digits on both sides of the dot together
        forms = [rf"0*\d{{{count}}}\.\d{{0,{digits - count}}}0*" for count in range(1, digits + 1)]
        forms.append(rf"0+\.\d{{0,{digits}}}0*")
        return rf"^[+-]?(?:{integer}|{_fraction(digits)}|{'|'.join(forms)})$"
    places = min(int(match["places"]), digits)
    return rf"^[+-]?(?:{integer}(?:\.\d{{0,{places}}}0*)?|{_fraction(places)})$"


def _fraction(places: int) -> str:
    """A dot with digits behind it alone."""
    return rf"\.(?:\d{{1,{places}}}0*|0+)" if places else r"\.0+"
