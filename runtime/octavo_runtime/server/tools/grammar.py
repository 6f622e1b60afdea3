"""The grammar of an answer that must call functions. Lark, as llguidance reads it
(github.com/guidance-ai/llguidance, docs/syntax.md)."""

import json
from collections.abc import Sequence
from typing import Any

from octavo_runtime.server.tools.syntax import Syntax
from octavo_runtime.server.tools.tool import Tool

_MOST_CALLS = 32  # of one answer

# As Python's json.dumps writes: free blanks would let a model go on with nothing else.
_SPACING = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}


def calls(syntax: Syntax, tools: Sequence[Tool], *, parallel: bool, otherwise: dict[str, Any] | None = None) -> str:
    """Calls of these functions with arguments that keep to their schemas; exactly one unless `parallel`. otherwise: a
    JSON schema that an answer without calls may keep to instead."""
    more = f"({json.dumps(syntax.written_separator)} call){{0,{_MOST_CALLS - 1}}}" if parallel else ""
    lines = [
        "start: calls" + ("" if otherwise is None else f" | %json {_schema(otherwise)}"),
        f"calls: {_literal(syntax.written_open)} call {more} {_literal(syntax.written_close)}",
        "call: " + " | ".join(f"call_{number}" for number in range(len(tools))),
    ]
    for number, tool in enumerate(tools):
        head = f'{{"name": "{tool.function.name}", "{syntax.argument_key}": '
        lines += [
            f'call_{number}: {json.dumps(head)} arguments_{number} "}}"',
            f"arguments_{number}: %json {_schema(tool.function.argument_schema())}",
        ]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    return json.dumps(text) if text else ""


def _schema(schema: dict[str, Any]) -> str:
    return json.dumps({**schema, "x-guidance": _SPACING})
