"""How models write calls: one table, for the parser, the grammar and the prompt."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

SyntaxName = Literal["hermes", "llama3", "mistral"]

JSON_HEAD = re.compile(
    r'\{\s*"name"\s*:\s*"(?P<name>[a-zA-Z0-9_-]{1,128})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
"""How most calls begin, up to the first brace of the arguments."""


class Syntax(NamedTuple):
    """marker: what calls stand behind; bare: an answer may also begin with a call without it. A call is a JSON object
    of a name and arguments; `named` is another form, the name before the arguments alone. open, separator, close: what
    stands around and between the calls behind one marker, where the model writes it. argument_key: the model's word for
    arguments. written_open, written_separator and written_close: the same as a grammar writes it, where an answer must
    call; it goes on behind `prompted`, which a special token would be. id_length: of the
    ids that templates take; None: any."""

    marker: str
    bare: bool
    open: str
    separator: str
    close: str
    argument_key: str
    written_open: str
    written_separator: str
    written_close: str
    named: re.Pattern[str] | None = None
    prompted: str = ""
    id_length: int | None = None


SYNTAXES: Mapping[SyntaxName, Syntax] = {
    # <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, once a call
    "hermes": Syntax(
        marker="<tool_call>",
        bare=False,
        open="",
        separator="",
        close="</tool_call>",
        argument_key="arguments",
        written_open="<tool_call>\n",
        written_separator="\n</tool_call>\n<tool_call>\n",
        written_close="\n</tool_call>",
    ),
    # {"name": "f", "parameters": {...}}; {...}, with or without <|python_tag|> before it
    "llama3": Syntax(
        marker="<|python_tag|>",
        bare=True,
        open="",
        separator=";",
        close="",
        argument_key="parameters",
        written_open="",
        written_separator="; ",
        written_close="",
    ),
    # [TOOL_CALLS] [{"name": "f", "arguments": {...}}, {...}]; newer models write [TOOL_CALLS]f[ARGS]{...}
    "mistral": Syntax(
        marker="[TOOL_CALLS]",
        bare=False,
        open="[",
        separator=",",
        close="]",
        argument_key="arguments",
        written_open="[",
        written_separator=", ",
        written_close="]",
        named=re.compile(r"(?P<name>[a-zA-Z0-9_-]{1,128})(?:\[CALL_ID\][a-zA-Z0-9]{1,64})?(?:\[ARGS\])?\s{0,8}(?=\{)"),
        prompted="[TOOL_CALLS]",
        id_length=9,
    ),
}


def recognise(template: str) -> SyntaxName | None:
    """The syntax that a chat template teaches; None where it teaches none of these."""
    if "[TOOL_CALLS]" in template:
        return "mistral"
    if "<tool_call>" in template and not re.search(r"<function=|<arg_key>", template):
        return "hermes"
    if "<|python_tag|>" in template or '{"name": function name, "parameters"' in template:
        return "llama3"
    return None
