"""The tools that a Responses request offers, each as a function of chat: those of a namespace under joined names, and
custom tools, whose input is any text, as functions of one string."""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.text import Text
from octavo_runtime.server.generation.answer_form import Schema
from octavo_runtime.server.http.errors import invalid
from octavo_runtime.server.tools.arguments import whole

_INPUT = "input"  # of a custom tool


class FunctionTool(BaseModel):
    """A function that the model may call. parameters: the JSON schema of its arguments."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function"]
    name: Text
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class CustomFormat(BaseModel):
    """What a custom tool's input is to look like. The model is told of a grammar, and nothing holds it to it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text", "grammar"]
    syntax: Literal["lark", "regex"] | None = None
    definition: Text | None = None


class CustomTool(BaseModel):
    """A tool whose input is any text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["custom"]
    name: Text
    description: Text | None = None
    format: CustomFormat | None = None


class Namespace(BaseModel):
    """Tools that belong together."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["namespace"]
    name: Text
    description: Text | None = None
    tools: ListOf[Annotated[FunctionTool | CustomTool, Field(discriminator="type")]]


Tool = Annotated[FunctionTool | CustomTool | Namespace, Field(discriminator="type")]


class NamedTool(BaseModel):
    """One tool, which must be called, or of which calls are allowed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["function", "custom"]
    name: Text
    namespace: Text | None = None


class AllowedTool(BaseModel):
    """A tool, or a whole namespace, that may be called; those that OpenAI's servers run are none of these here."""

    model_config = ConfigDict(strict=True)

    type: Text
    name: Text | None = None
    namespace: Text | None = None


class AllowedTools(BaseModel):
    """Only some of the tools may be called, or with mode required must be."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: ListOf[AllowedTool]


class Offered(NamedTuple):
    """A tool, and the namespace that it is in. place: where it stands in the request."""

    tool: FunctionTool | CustomTool
    namespace: str | None
    place: str

    @property
    def chat_name(self) -> str:
        """The name of the function that stands for it in chat."""
        return chat_name(self.tool.name, self.namespace)


def chat_name(name: str, namespace: str | None) -> str:
    """The name, in chat, of a tool and of the calls of it."""
    return name if namespace is None else f"{namespace}__{name}"


def offered(tools: Sequence[Tool | None]) -> Iterator[Offered]:
    """The tools one by one; null stands for one that was set aside."""
    for number, tool in enumerate(tools):
        if isinstance(tool, Namespace):
            for place, one in enumerate(tool.tools):
                yield Offered(one, tool.name, f"tools.{number}.tools.{place}")
        elif tool is not None:
            yield Offered(tool, None, f"tools.{number}")


def allowed(choice: AllowedTools, tools: Sequence[Offered]) -> list[Offered]:
    """Those of `tools` that may be called. Raises ApiError where the choice names one that is not there."""
    kept = []
    for number, one in enumerate(choice.tools):
        if one.type == "namespace":
            found = [tool for tool in tools if tool.namespace == one.name]
        elif one.type in ("function", "custom"):
            found = [tool for tool in tools if (tool.tool.name, tool.namespace) == (one.name, one.namespace)]
        else:
            continue
        if not found:
            field = f"tool_choice.tools.{number}.name"
            raise invalid(field, f"must be one of tools, got {one.name!r:.100}")
        kept += found
    return [tool for tool in tools if tool in kept]


def chat_function(one: Offered) -> dict[str, Any]:
    """The function that stands for a tool in chat."""
    if isinstance(one.tool, CustomTool):
        told = (one.tool.description, _told(one.tool.format))
        parameters = {
            "type": "object",
            "properties": {_INPUT: {"type": "string"}},
            "required": [_INPUT],
            "additionalProperties": False,
        }
        given = {"description": "\n".join(text for text in told if text) or None, "parameters": parameters}
    else:
        given = {name: getattr(one.tool, name) for name in ("description", "parameters", "strict")}
    return {"name": one.chat_name, **{name: value for name, value in given.items() if value is not None}}


def custom_arguments(text: str) -> str:
    """The arguments, in chat, of a call of a custom tool."""
    return json.dumps({_INPUT: text}, ensure_ascii=False)


def custom_input(arguments: str) -> str:
    """The input of a custom tool in its call's arguments: nothing while they are not whole, and all of them where the
    model wrote something else."""
    given = whole(arguments)
    if given is None:
        return ""
    text = given.get(_INPUT)
    return text if isinstance(text, str) else arguments


def _told(form: CustomFormat | None) -> str | None:
    if form is None or form.definition is None:
        return None
    return f"The input must match this {form.syntax or ''} grammar:\n{form.definition}"
