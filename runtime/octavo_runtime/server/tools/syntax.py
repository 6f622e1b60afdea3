"""How models write calls: one table, for the parser, the grammar and the prompt."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from octavo_runtime.config.server import CallSyntax

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
"""Of a message of the harmony format: its beginning, its channel's name, and its text."""

JSON_HEAD = re.compile(
    r'\{\s*"name"\s*:\s*"(?P<name>[a-zA-Z0-9_-]{1,128})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
"""How most calls begin, up to the first brace of the arguments."""


class JsonSyntax(NamedTuple):
    """Calls that are JSON, or whose arguments are.

    marker: what calls stand behind; bare: an answer may also begin with a call without it. A call is a JSON object
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

    @property
    def written(self) -> "JsonSyntax":
        """What a grammar writes where an answer must call."""
        return self

    @property
    def marks(self) -> tuple[str, ...]:
        """Strings that may be special tokens, and must be seen."""
        return (self.marker,)


class TaggedSyntax(NamedTuple):
    """Calls whose arguments each stand between tags of their own, as text that the function's schema gives a meaning.

    marker: what calls stand behind. head: a call's beginning, with the group `name`; head_end: a character that is in
    none before its end. argument: an argument's beginning, with the group `key`; argument_close: its end; padding: one
    of them at either end of a value is not its own. call_close: a call's end; call_open: how the next one of the same
    marker begins, and close what stands behind the last one, where there are such. written: what a grammar writes in
    the place of all this, where an answer must call."""

    marker: str
    head: re.Pattern[str]
    head_end: str
    argument: re.Pattern[str]
    argument_close: str
    padding: str
    call_close: str
    call_open: str
    close: str
    written: JsonSyntax
    id_length: int | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """See JsonSyntax."""
        return self.marker, self.argument_close, self.call_close


class PythonicSyntax(NamedTuple):
    """Calls that are a list of Python's, with arguments by name: all of an answer, or between `marker` and `close`.
    written: see TaggedSyntax."""

    marker: str
    close: str
    written: JsonSyntax
    id_length: int | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """See JsonSyntax."""
        return self.marker, self.close


class ChannelSyntax(NamedTuple):
    """An answer of several messages, of which each names its channel and whom it is for (OpenAI's harmony format,
    cookbook.openai.com/articles/openai-harmony). written: see TaggedSyntax."""

    written: JsonSyntax
    id_length: int | None = None
    marks: tuple[str, ...] = (START, CHANNEL, MESSAGE)


Syntax = JsonSyntax | TaggedSyntax | PythonicSyntax | ChannelSyntax

_DEEPSEEK_CALL = re.compile(
    r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?(?P<name>[a-zA-Z0-9_-]{1,128})"
    r"(?:<｜tool▁sep｜>|\s{0,8}```json)\s{0,8}(?=\{)"
)
_DEEPSEEK = JsonSyntax(
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

_OF_JSON: Mapping[CallSyntax, JsonSyntax] = {
    # <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, once a call
    "hermes": JsonSyntax(
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
    "llama3": JsonSyntax(
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
    "mistral": JsonSyntax(
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
    "kimi_k2": JsonSyntax(
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

_NAME, _KEY = "(?P<name>[a-zA-Z0-9_-]{1,128})", '(?P<key>[^<>"]{1,128}?)'

# <seed:tool_call> and the like, then <function=f><parameter=a>...</parameter></function>
_FUNCTION_TAGS = TaggedSyntax(
    marker="<tool_call>",
    head=re.compile(f"<function={_NAME}>"),
    head_end=">",
    argument=re.compile(f"<parameter={_KEY}>"),
    argument_close="</parameter>",
    padding="\n",
    call_close="</function>",
    call_open="<function=",
    close="</tool_call>",
    written=_OF_JSON["hermes"],
)

SYNTAXES: Mapping[CallSyntax, Syntax] = {
    **_OF_JSON,
    # <tool_call>f\n<arg_key>a</arg_key>\n<arg_value>...</arg_value>\n</tool_call>, once a call
    "glm45": TaggedSyntax(
        marker="<tool_call>",
        head=re.compile(rf"{_NAME}\s{{0,8}}(?=<)"),
        head_end="<",
        argument=re.compile(rf"<arg_key>{_KEY}</arg_key>\s{{0,8}}<arg_value>"),
        argument_close="</arg_value>",
        padding="",
        call_close="</tool_call>",
        call_open="",
        close="",
        written=_OF_JSON["hermes"],
    ),
    "qwen3_coder": _FUNCTION_TAGS,
    "seed_oss": _FUNCTION_TAGS._replace(marker="<seed:tool_call>", close="</seed:tool_call>"),
    # <minimax:tool_call>\n<invoke name="f">\n<parameter name="a">...</parameter>\n</invoke>\n</minimax:tool_call>
    "minimax_m2": TaggedSyntax(
        marker="<minimax:tool_call>",
        head=re.compile(f'<invoke name="?{_NAME}"?>'),
        head_end=">",
        argument=re.compile(f'<parameter name="?{_KEY}"?>'),
        argument_close="</parameter>",
        padding="\n",
        call_close="</invoke>",
        call_open="<invoke ",
        close="</minimax:tool_call>",
        written=_OF_JSON["hermes"],
    ),
    # [f(a=1, b="x"), g()], with or without <|python_start|> and <|python_end|> around it
    "pythonic": PythonicSyntax("<|python_start|>", "<|python_end|>", _OF_JSON["llama3"]),
    # <|channel|>commentary to=functions.f <|constrain|>json<|message|>{...}<|call|>
    "harmony": ChannelSyntax(
        _OF_JSON["llama3"]._replace(
            marker=MESSAGE,
            bare=False,
            prompted=f"{CHANNEL}commentary to=functions <|constrain|>json{MESSAGE}",
            written_call='{"name": "$name", "arguments": $arguments}',
        )
    ),
}


# What a template has in it that teaches a syntax; the first that is found counts.
_TAUGHT: Mapping[CallSyntax, str] = {
    "harmony": r"<\|channel\|>",
    "mistral": r"\[TOOL_CALLS\]",
    "deepseek_v3": r"(?s)<｜tool▁calls▁begin｜>.*```json|```json.*<｜tool▁calls▁begin｜>",
    "deepseek_v31": r"<｜tool▁calls▁begin｜>",
    "kimi_k2": r"<\|tool_calls_section_begin\|>",
    "minimax_m2": r"<minimax:tool_call>",
    "seed_oss": r"<seed:tool_call>",
    "glm45": r"<arg_key>",
    "qwen3_coder": r"<function=",
    "hermes": r"<tool_call>",
    "pythonic": r"\[func_name\d?\(|\(params_name",
    "llama3": r'<\|python_tag\|>|\{"name": function name, "parameters"',
}


def recognise(template: str) -> CallSyntax | None:
    """The syntax that a chat template teaches; None where it teaches none of these."""
    return next((name for name, taught in _TAUGHT.items() if re.search(taught, template)), None)
