"""Which parser reads a model's answers."""

from collections.abc import Mapping
from typing import Any

from octavo_runtime.server.tools.call_parser import CallParser
from octavo_runtime.server.tools.channel_parser import ChannelParser
from octavo_runtime.server.tools.event import Parser
from octavo_runtime.server.tools.pythonic_parser import PythonicParser
from octavo_runtime.server.tools.syntax import ChannelSyntax, JsonSyntax, PythonicSyntax, Syntax, TaggedSyntax
from octavo_runtime.server.tools.tagged_parser import TaggedParser


def parser_of(syntax: Syntax, functions: Mapping[str, Mapping[str, Any]]) -> Parser:
    """Reads one answer of a model that calls in this syntax, by itself. functions: the JSON schemas of the arguments of
    those that were offered, by name."""
    match syntax:
        case JsonSyntax():
            return CallParser(syntax, functions)
        case TaggedSyntax():
            return TaggedParser(syntax, functions)
        case PythonicSyntax():
            return PythonicParser(syntax, functions)
        case ChannelSyntax():
            return ChannelParser(functions)
