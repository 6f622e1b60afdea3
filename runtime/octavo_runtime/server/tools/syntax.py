"""How models write calls: one table, for the parser, the grammar and the prompt."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

SyntaxName = Literal["hermes", "llama3", "mistral", "deepseek_v3", "deepseek_v31", "kimi_k2"]

JSON_HEAD = re.compile(
    r'\{\s*"name"\s*:\s*"(?P<name>[a-zA-Z0-9_-]{1,128})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
"""How most calls begin, up to the first brace of the arguments."""


class Syntax(NamedTuple):
    """marker: what calls stand behind; bare: an answer may also begin with a call without it. A call is a JSON object
    of a name and arguments; `named` is another form, the name before the arguments alone. open, separator, close: what
    stands around and between the calls behind one marker, where the model writes it; call_open and call_close: what
    begins each of them, and what may follow its arguments. written_call: a call, with $name and $arguments.
    written_open, written_separator and written_close: what stands around and between calls as a grammar writes them,
    where an answer must call; it goes on behind `prompted`, which a special token would be. id_length: of the ids that
    templates take; None: any."""

    marker: str
    bare: bool
    open: str
    separator: str
    close: str
    written_call: str
    written_open: str
    written_separator: str
    written_close: str
    named: re.Pattern[str] | None = None
    call_open: str = ""
    call_close: tuple[str, ...] = ()
    prompted: str = ""
    id_length: int | None = None


_DEEPSEEK_CALL = re.compile(
    r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?(?P<name>[a-zA-Z0-9_-]{1,128})"
    r"(?:<｜tool▁sep｜>|\s{0,8}```json)\s{0,8}(?=\{)"
)
_DEEPSEEK = Syntax(
    marker="<｜tool▁calls▁begin｜>",
    bare=False,
    open="",
    separator="",
    close="<｜tool▁calls▁end｜>",
    written_call="<｜tool▁call▁begin｜>$name<｜tool▁sep｜>$arguments<｜tool▁call▁end｜>",
    written_open="<｜tool▁calls▁begin｜>",
    written_separator="",
    written_close="<｜tool▁calls▁end｜>",
    named=_DEEPSEEK_CALL,
    call_open="<｜tool▁call▁begin｜>",
    call_close=("```", "<｜tool▁call▁end｜>"),
)

SYNTAXES: Mapping[SyntaxName, Syntax] = {
    # <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, once a call
    "hermes": Syntax(
        marker="<tool_call>",
        bare=False,
        open="",
        separator="",
        close="</tool_call>",
        written_call='{"name": "$name", "arguments": $arguments}',
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
        written_call='{"name": "$name", "parameters": $arguments}',
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
        written_call='{"name": "$name", "arguments": $arguments}',
        written_open="[",
        written_separator=", ",
        written_close="]",
        named=re.compile(r"(?P<name>[a-zA-Z0-9_-]{1,128})(?:\[CALL_ID\][a-zA-Z0-9]{1,64})?(?:\[ARGS\])?\s{0,8}(?=\{)"),
        prompted="[TOOL_CALLS]",
        id_length=9,
    ),
    # function, the name and a block of JSON, once a call, all of them in one section
    "deepseek_v3": _DEEPSEEK._replace(
        written_call="<｜tool▁call▁begin｜>function<｜tool▁sep｜>$name\n```json\n$arguments\n```<｜tool▁call▁end｜>",
        written_separator="\n",
    ),
    # the same with the name alone in front of the arguments
    "deepseek_v31": _DEEPSEEK,
    # <|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{...}<|tool_call_end|>...
    "kimi_k2": Syntax(
        marker="<|tool_calls_section_begin|>",
        bare=False,
        open="",
        separator="",
        close="<|tool_calls_section_end|>",
        written_call="<|tool_call_begin|>functions.$name:0<|tool_call_argument_begin|>$arguments<|tool_call_end|>",
        written_open="<|tool_calls_section_begin|>",
        written_separator="",
        written_close="<|tool_calls_section_end|>",
        named=re.compile(
            r"<\|tool_call_begin\|>\s{0,8}(?:functions\.)?(?P<name>[a-zA-Z0-9_-]{1,128})(?::\d{1,9})?\s{0,8}"
            r"<\|tool_call_argument_begin\|>\s{0,8}(?=\{)"
        ),
        call_open="<|tool_call_begin|>",
        call_close=("<|tool_call_end|>",),
    ),
}


def recognise(template: str) -> SyntaxName | None:
    """The syntax that a chat template teaches; None where it teaches none of these."""
    if "[TOOL_CALLS]" in template:
        return "mistral"
    if "<｜tool▁calls▁begin｜>" in template:
        return "deepseek_v3" if "```json" in template else "deepseek_v31"
    if "<|tool_calls_section_begin|>" in template:
        return "kimi_k2"
    if "<tool_call>" in template and not re.search(r"<function=|<arg_key>", template):
        return "hermes"
    if "<|python_tag|>" in template or '{"name": function name, "parameters"' in template:
        return "llama3"
    return None
