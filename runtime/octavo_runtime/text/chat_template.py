"""A conversation to the one text that the model goes on from: the model's own Jinja template, in a sandbox."""

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jinja2

from octavo_runtime.config.user_path import user_path
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.text import template_sandbox
from octavo_runtime.text.template_process import TemplateProcess, TemplateRefusal
from octavo_runtime.text.tokenizer import Tokenizer
from octavo_runtime.text.tokenizer_conversion import tokenizer_folder
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable, read_chat_templates, read_special_tokens

Message = Mapping[str, Any]
"""`role` and `content`, as in OpenAI's chat requests; content is a string, or None beside `tool_calls`, whose arguments
are objects."""

RESERVED_VARIABLES = frozenset(
    {
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "continue_final_message",
        "chat_template",
        "raise_exception",
        "strftime_now",
        "bos_token",
        "eos_token",
        "unk_token",
        "pad_token",
        "sep_token",
        "cls_token",
        "mask_token",
        "additional_special_tokens",
    }
)
"""Template variables that a request's own may not stand in for."""

# Stands behind the text to go on from. Random, so that no text from outside contains it; the space behind it tells
# whether the template strips messages.
_HERE = f"here{secrets.token_hex(16)}"


@dataclass(frozen=True)
class Conversation:
    """What a chat template renders. tools: OpenAI's objects; documents: each with a title and a text; variables: what
    else the template may ask for. add_generation_prompt: the text ends where the assistant's answer begins;
    continue_final_message: it ends in the content of the last message."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)


class ChatTemplate:
    """Renders conversations as transformers' `apply_chat_template` does, within 1 s of computing, 512 MiB of memory and
    4 million characters.

    source: the Jinja template; None for a model without one, which refuses every conversation. special_tokens: what the
    template may name, such as {"bos_token": "<s>"}. with_tools: the template of conversations that offer tools, where
    the model has one apart."""

    def __init__(self, source: str | None, special_tokens: Mapping[str, str], with_tools: str | None = None) -> None:
        given = [text for text in (source, with_tools) if text is not None]
        self.source = "\n".join(given)
        self._special_tokens = special_tokens
        self._process = None if source is None else TemplateProcess(source)
        self._with_tools = self._process if with_tools is None else TemplateProcess(with_tools)
        try:
            # Parsing computes nothing. Compiling does: constant expressions.
            for text in given:
                template_sandbox.environment().parse(text)
        except (jinja2.TemplateError, RecursionError) as error:
            raise TokenizerUnavailable(f"the chat template is not valid Jinja: {error}") from None

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names that the template asks for. The first look starts the template's process, which the first
        conversation would else wait for. Raises TokenizerUnavailable where the template does not compile."""
        processes = {process for process in (self._process, self._with_tools) if process is not None}
        try:
            return frozenset().union(*(process.start() for process in processes))
        except TemplateRefusal as refusal:
            raise TokenizerUnavailable(f"the chat template is not valid Jinja: {refusal}") from None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The text of a conversation. Raises InvalidParameter where the template refuses the messages."""
        return self.render_conversation(Conversation(messages, add_generation_prompt=add_generation_prompt))

    def render_conversation(self, conversation: Conversation) -> str:
        """The text of a conversation. Raises InvalidParameter where the template refuses it."""
        process = self._with_tools if conversation.tools else self._process
        if process is None:
            raise InvalidParameter("messages", "need a chat template, and this model has none; send a prompt instead")
        messages = list(conversation.messages)
        if conversation.continue_final_message:
            messages[-1] = {**messages[-1], "content": f"{messages[-1]['content']}{_HERE} "}
        try:
            text = process.render(
                {
                    **conversation.variables,
                    **self._special_tokens,
                    "messages": messages,
                    "tools": conversation.tools,
                    "documents": conversation.documents,
                    "add_generation_prompt": conversation.add_generation_prompt,
                }
            )
        except TemplateRefusal as refusal:
            raise InvalidParameter("messages", f"do not suit the model's chat template: {refusal}") from None
        return _up_to_here(text) if conversation.continue_final_message else text

    def encode(
        self, messages: Sequence[Message], tokenizer: Tokenizer, *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Token ids of a conversation. Special tokens' strings in its contents become ordinary tokens."""
        conversation = Conversation(messages, add_generation_prompt=add_generation_prompt)
        return self.encode_conversation(conversation, tokenizer)

    def encode_conversation(self, conversation: Conversation, tokenizer: Tokenizer) -> list[int]:
        """Token ids of a conversation. Special tokens' strings in its messages, tools, documents and variables become
        ordinary tokens."""
        return tokenizer.encode(self.guarded_text(conversation, tokenizer), add_special_tokens=False)

    def guarded_text(self, conversation: Conversation, tokenizer: Tokenizer) -> str:
        """The text of a conversation, with its own strings guarded for `Tokenizer.encode`."""
        try:
            guarded = dataclasses.replace(
                conversation,
                messages=[{**_guarded(one, tokenizer), "role": one["role"]} for one in conversation.messages],
                tools=_guarded(conversation.tools, tokenizer),
                documents=_guarded(conversation.documents, tokenizer),
                variables=_guarded(conversation.variables, tokenizer),
            )
            return self.render_conversation(guarded)
        except RecursionError:
            raise InvalidParameter("messages", "must be nested less deep, with tools and all the rest") from None


def load_chat_template(files: ModelFiles, given: str | None = None) -> ChatTemplate:
    """The chat template of a model, from the files that transformers takes it from; or `given`, a file or a template's
    own text, in its place. Raises TokenizerUnavailable."""
    folder = tokenizer_folder(files)
    special_tokens = read_special_tokens(folder)
    if given is not None:
        return ChatTemplate(_given_template(given), special_tokens)
    templates = read_chat_templates(folder)
    return ChatTemplate(templates.get("default"), special_tokens, templates.get("tool_use"))


def _given_template(given: str) -> str:
    """What looks like no template must be a file, as in vLLM."""
    if any(sign in given for sign in "{}\n"):
        return given
    try:
        return user_path(given).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerUnavailable(f"chat_template: {given}: not UTF-8 text: {error}") from None
    except OSError as error:
        raise TokenizerUnavailable(
            f"chat_template: must be a file or a Jinja template, got {given!r:.200} ({error.strerror})"
        ) from None


def _guarded(value: Any, tokenizer: Tokenizer) -> Any:
    """A JSON value with every string in it guarded, its keys too."""
    if isinstance(value, str):
        return tokenizer.guard(value)
    if isinstance(value, Mapping):
        return {tokenizer.guard(key): _guarded(inner, tokenizer) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_guarded(inner, tokenizer) for inner in value]
    return value


def _up_to_here(text: str) -> str:
    """The text before the mark; where the template has stripped the message, so is the end."""
    before, mark, behind = text.rpartition(_HERE)
    if not mark:
        raise InvalidParameter("continue_final_message", "does not suit the model's chat template: it drops the text")
    return before if behind.startswith(" ") else before.rstrip()
