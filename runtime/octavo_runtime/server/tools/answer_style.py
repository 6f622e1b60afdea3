"""How a served model writes what is more than text in its answers: calls of functions, and reasoning."""

from dataclasses import dataclass

from octavo_runtime.config.server import ServerConfig
from octavo_runtime.server.reasoning.splitter import CLOSE, OPEN
from octavo_runtime.server.tools.syntax import SYNTAXES, Syntax, recognise
from octavo_runtime.text.chat_template import ChatTemplate


@dataclass(frozen=True)
class AnswerStyle:
    """calls: the syntax of calls; None where the server reads none. template_tells: whether the chat template tells the
    model of tools; a system message does otherwise. reasons: whether <think>...</think> is apart from the answer."""

    calls: Syntax | None
    template_tells: bool
    reasons: bool


def answer_style(template: ChatTemplate, server: ServerConfig) -> AnswerStyle:
    """The style that the server's options ask for; `auto` looks at the chat template."""
    tells = "tools" in template.variables
    # A template that writes calls of the past, but tells of no tools, leaves the telling to a system message.
    chosen, taught = server.tool_call_parser, recognise(template.source) if tells else None
    name = taught or "hermes" if chosen == "auto" else chosen
    return AnswerStyle(
        calls=None if name == "none" else SYNTAXES[name],
        # A template may tell of tools in words that lead to another syntax than the server reads.
        template_tells=tells and (chosen != "auto" or taught is not None),
        reasons=any(mark in template.source for mark in (OPEN, CLOSE))
        if server.reasoning_parser == "auto"
        else server.reasoning_parser == "think",
    )
