"""What the engine is asked for a chat request: the prompt, and the form that the answer must have."""

import dataclasses
from typing import Any, NamedTuple

import msgspec

from octavo_runtime.protocol.reason import Mention, as_text
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams, StructuredOutput
from octavo_runtime.server.generation.answer_form import AnswerForm
from octavo_runtime.server.generation.answer_schema import adapted_form, adapted_schema
from octavo_runtime.server.generation.bounds import check_text
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest
from octavo_runtime.server.generation.request import asked_as
from octavo_runtime.server.http.errors import invalid
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.reasoning.splitter import left_open
from octavo_runtime.server.state import ServedModel
from octavo_runtime.server.tools import grammar, prompt
from octavo_runtime.server.tools.answer_style import AnswerStyle
from octavo_runtime.server.tools.syntax import CHANNEL, MESSAGE, JsonSyntax
from octavo_runtime.server.tools.tool import Tool
from octavo_runtime.text.chat_template import Conversation

_LAST_TOKENS = 16  # of a prompt, in which it may open the reasoning


class ChatPrompt(NamedTuple):
    """may_reason: whether the answer may begin with reasoning; reasoning_open: the prompt has begun it already.
    in_message: whether the prompt has begun the text of a message."""

    token_ids: list[int]
    may_reason: bool
    reasoning_open: bool
    in_message: bool


def chat_prompt(model: ServedModel, body: ChatCompletionRequest, form: AnswerForm | None) -> ChatPrompt:
    """The prompt of a conversation whose answer has this form. Raises ApiError or InvalidParameter; takes a while, for
    a thread."""
    contents = sum(len(str(message.for_template()["content"])) for message in body.messages)
    check_text(model, contents, "messages", body.truncate_prompt_tokens)
    text = model.template.guarded_text(_conversation(model, body), model.tokenizer)
    check_text(model, len(model.tokenizer.unguarded(text)), "messages", body.truncate_prompt_tokens)
    token_ids = model.tokenizer.encode(text, add_special_tokens=False)
    begun = str(body.messages[-1].for_template()["content"]) if body.continue_final_message else ""
    style, in_message = model.style, bool(begun.strip())
    opened = False
    if style.thinking is not None:
        opened = left_open(begun, style.thinking) if in_message else _ends_with(style.thinking.open, model, token_ids)
    # Reasoning is what a message begins with.
    reasons = style.reasons and (opened or not in_message)
    may_reason = reasons and form is None and not body.forced_tools
    lead_in = "" if may_reason else _lead_in(style, body, opened=opened, in_message=in_message)
    token_ids += model.tokenizer.encode(lead_in, add_special_tokens=False)
    return ChatPrompt(token_ids, may_reason, opened and may_reason, in_message)


def _lead_in(style: AnswerStyle, body: ChatCompletionRequest, *, opened: bool, in_message: bool) -> str:
    """What the prompt says for the model where a form holds from the answer's first token on, so that it has no room to
    think."""
    closes = f"\n{style.thinking.close}\n\n" if style.thinking is not None and opened else ""
    if body.forced_tools and style.calls is not None:
        return closes + style.calls.written.prompted
    return closes + (f"{CHANNEL}final{MESSAGE}" if style.channels and not in_message else "")


def prompt_tokens(model: ServedModel, body: ChatCompletionRequest) -> list[int]:
    """The tokens of a prompt alone; see chat_prompt."""
    return chat_prompt(model, body, body.answer_form()).token_ids


def chat_params(model: ServedModel, body: ChatCompletionRequest, form: AnswerForm | None) -> SamplingParams:
    """The engine's parameters. Raises ApiError or InvalidParameter; schemas of many tools take a while."""
    params, style = body.sampling_params(None, model.defaults, form), model.style
    marks = style.marks(calls=bool(body.offered_tools))
    if style.channels or any(model.tokenizer.is_special(mark) for mark in marks):
        params = msgspec.structs.replace(params, skip_special_tokens=False)
    if form is not None and form.output.json is not None:
        adapted_form(form)
    if not body.offered_tools:
        return params
    if style.calls is None:
        raise invalid("tools", "not read by this server (--tool-call-parser none); leave them out")
    if body.forced_tools or form is not None:
        lark = _calls(body, style.calls.written, form)
        try:
            params = msgspec.structs.replace(params, structured_outputs=StructuredOutput(grammar=lark))
        except InvalidParameter as error:
            raise InvalidParameter("tool_choice", as_text(error.reason, asked_as)) from None
    return params


def chat_form_field(body: ChatCompletionRequest, form: AnswerForm | None, line: int | None) -> str:
    """The request's field that the answer's form comes from, or the form's line, where calls are its form."""
    if not body.offered_tools or not (body.forced_tools or form is not None):
        return "structured_outputs" if form is None else form.field
    tools = _of_grammar(body)
    number = None if line is None else grammar.tool_at(line)
    if number is None or number >= len(tools):
        return "tools"
    return f"tools.{tools[number][0]}.function.parameters"


def _calls(body: ChatCompletionRequest, syntax: JsonSyntax, form: AnswerForm | None) -> str:
    """The grammar of an answer that calls functions, or has its form where it need not."""
    parallel = body.parallel_tool_calls is not False
    if body.forced_tools:
        if form is not None:
            raise InvalidParameter("tool_choice", ("cannot force a call together with ", Mention(form.field)))
        several = parallel and body.tool_choice == "required"
        return grammar.calls(syntax, _argument_schemas(body), parallel=several)
    assert form is not None
    if not syntax.written_open or syntax.prompted or not (form.output.json or form.output.json_object):
        raise InvalidParameter(form.field, "cannot be combined with tools here; send tool_choice none or no tools")
    return grammar.calls(syntax, _argument_schemas(body), parallel=parallel, otherwise=adapted_form(form))


def _of_grammar(body: ChatCompletionRequest) -> list[tuple[int, Tool]]:
    """The functions that a grammar of calls is made of, with their places in the request."""
    names = {tool.function.name for tool in body.forced_tools or body.offered_tools}
    return [(number, tool) for number, tool in enumerate(body.tools or ()) if tool.function.name in names]


def _argument_schemas(body: ChatCompletionRequest) -> dict[str, dict[str, Any]]:
    """Of the arguments of each function, by its name."""
    schemas = {}
    for number, tool in _of_grammar(body):
        field, name = f"tools.{number}.function.parameters", tool.function.name
        schemas[name] = adapted_schema(field, tool.function.argument_schema(), f", in the tool {name!r}")
    return schemas


def _conversation(model: ServedModel, body: ChatCompletionRequest) -> Conversation:
    conversation = body.conversation(model.template.source)
    known, effort = model.template.variables, body.reasoning_effort
    if effort is not None:
        if "reasoning_effort" in known:
            setting: dict[str, Any] = {"reasoning_effort": effort}
        elif effort == "none":
            setting = {"enable_thinking": False}
        elif current_request().strict:
            rule = f"not known to this model's chat template; leave it out, got {effort}"
            raise invalid("reasoning_effort", rule)
        else:
            current_request().ignore("reasoning_effort")
            setting = {}
        conversation = dataclasses.replace(conversation, variables={**conversation.variables, **setting})
    return conversation if model.style.template_tells else prompt.as_text(conversation)


def _ends_with(mark: str, model: ServedModel, token_ids: list[int]) -> bool:
    end = model.tokenizer.decode(token_ids[-_LAST_TOKENS:], skip_special_tokens=False)
    return end.rstrip().endswith(mark)
