"""The grammar of an answer that must call functions. Lark, as llguidance reads it
(github.com/guidance-ai/llguidance, docs/syntax.md)."""

import json
from collections.abc import Mapping
from typing import Any

from octavo_runtime.server.tools.syntax import JsonSyntax

_MOST_CALLS = 32  # of one answer
_LINES_BEFORE = 3  # the rules of the tools', two lines each

# As Python's json.dumps writes: free blanks would let a model go on with nothing else.
_SPACING = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}


def calls(
    syntax: JsonSyntax,
    schemas: Mapping[str, dict[str, Any]],
    *,
    parallel: bool,
    otherwise: dict[str, Any] | None = None,
) -> str:
    """Calls of functions by name with arguments that keep to their schemas; exactly one unless `parallel`. otherwise: a
    JSON schema that an answer without calls may keep to instead. The schemas are llguidance's own, see
    structured.json_schema."""
    more = f"({json.dumps(syntax.written_separator)} call){{0,{_MOST_CALLS - 1}}}" if parallel else ""
    lines = [
        "start: calls" + ("" if otherwise is None else f" | %json {_schema(otherwise)}"),
        f"calls: {_literal(syntax.written_open)} call {more} {_literal(syntax.written_close)}",
        "call: " + " | ".join(f"call_{number}" for number in range(len(schemas))),
    ]
    assert len(lines) == _LINES_BEFORE
    for number, (name, schema) in enumerate(schemas.items()):
        head, _, tail = syntax.written_call.replace("$name", name).partition("$arguments")
        lines += [
            f"call_{number}: {json.dumps(head)} arguments_{number} {json.dumps(tail)}",
            f"arguments_{number}: %json {_schema(schema)}",
        ]
    return "\n".join(lines) + "\n"


def tool_at(line: int) -> int | None:
    """Which of the tools a line of the grammar, counted from 1, is of; None where it is of all."""
    return (line - _LINES_BEFORE - 1) // 2 if line > _LINES_BEFORE else None


def _literal(text: str) -> str:
    return json.dumps(text) if text else ""


def _schema(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": _SPACING})
