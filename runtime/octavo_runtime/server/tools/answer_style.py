"""How a served model writes what is more than text in its answers: calls of functions, and reasoning."""

from collections.abc import Mapping
from dataclasses import dataclass

from octavo_runtime.config.server import ServerConfig
from octavo_runtime.server.reasoning.splitter import THINK, Marks
from octavo_runtime.server.tools.syntax import SYNTAXES, Syntax, recognise
from octavo_runtime.text.chat_template import ChatTemplate

_MARKS: Mapping[str, Marks] = {
    "think": THINK,
    "mistral": Marks("[THINK]", "[/THINK]"),
    "seed_oss": Marks("<seed:think>", "</seed:think>"),
}


@dataclass(frozen=True)
class AnswerStyle:
    """calls: the syntax of calls; None where the server reads none. template_tells: whether the chat template tells the
    model of tools; a system message does otherwise. thinking: what reasoning stands between, apart from the answer;
    None where nothing is told apart, or where channels tell it. channels: whether an answer is made of messages that
    name their channels."""

    calls: Syntax | None
    template_tells: bool
    thinking: Marks | None
    channels: bool

    @property
    def reasons(self) -> bool:
        """Whether reasoning is told apart."""
        return self.thinking is not None or self.channels

    def marks(self, *, calls: bool) -> tuple[str, ...]:
        """Strings of an answer, some of which may be special tokens, that must be seen. calls: whether it may call."""
        return (*(self.thinking or ()), *(self.calls.marks if calls and self.calls is not None else ()))


def answer_style(template: ChatTemplate, server: ServerConfig) -> AnswerStyle:
    """The style that the server's options ask for; `auto` looks at the chat template."""
    tells = "tools" in template.variables
    # A template that writes calls of the past, but tells of no tools, leaves the telling to a system message.
    chosen, taught = server.tool_call_parser, recognise(template.source) if tells else None
    name = taught or "hermes" if chosen == "auto" else chosen
    reasoning = _taught_reasoning(template.source) if server.reasoning_parser == "auto" else server.reasoning_parser
    return AnswerStyle(
        calls=None if name == "none" else SYNTAXES[name],
        # A template may tell of tools in words that lead to another syntax than the server reads.
        template_tells=tells and (chosen != "auto" or taught is not None),
        thinking=_MARKS.get(reasoning),
        channels=reasoning == "harmony",
    )


def _taught_reasoning(template: str) -> str:
    """How a chat template says that the model reasons."""
    if recognise(template) == "harmony":
        return "harmony"
    return next((name for name, marks in _MARKS.items() if any(mark in template for mark in marks)), "none")
