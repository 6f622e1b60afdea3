"""What clients may send: OpenAI's request objects (platform.openai.com/docs/api-reference)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.prompts import Prompts, at_most, listed
from octavo_runtime.server.fields.rule import broken_rule
from octavo_runtime.server.fields.text import valid_value
from octavo_runtime.server.fields.unsupported import NEUTRAL_FOR_CHAT, NEUTRAL_FOR_COMPLETIONS
from octavo_runtime.server.generation import wishes
from octavo_runtime.server.generation.bounds import MOST_PROMPTS, MOST_TOP_LOGPROBS, AtLeastOne, TokenLimit
from octavo_runtime.server.generation.chat_message import ChatMessage, require_known_fields
from octavo_runtime.server.generation.request import GenerationRequest
from octavo_runtime.server.http.invalid_body import invalid_body
from octavo_runtime.server.tools.tool import MOST_TOOLS, NamedToolChoice, Tool, ToolChoice
from octavo_runtime.text.chat_template import RESERVED_VARIABLES, Conversation

_MOST_DOCUMENTS = 128
_MOST_TEMPLATE_VARIABLES = 64


class ChatCompletionRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    neutral = NEUTRAL_FOR_CHAT
    wishes = wishes.CHAT

    messages: Annotated[ListOf[ChatMessage], Field(min_length=1)]
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = None
    tool_choice: ToolChoice | None = Field(None, description="Default auto.")
    parallel_tool_calls: bool | None = Field(
        None, description="Whether an answer may call several times. Default true."
    )
    add_generation_prompt: bool | None = Field(
        None, description="Let the assistant begin a new message. Default true, without continue_final_message."
    )
    continue_final_message: bool = Field(False, description="Go on within the last message.")
    chat_template_kwargs: Annotated[
        dict[str, Any], Field(max_length=_MOST_TEMPLATE_VARIABLES), AfterValidator(valid_value)
    ] = Field(default_factory=dict, description="Variables of the model's chat template, such as enable_thinking.")
    documents: (
        Annotated[list[dict[str, Any]], Field(max_length=_MOST_DOCUMENTS), AfterValidator(valid_value)] | None
    ) = Field(None, description="Texts for chat templates that show some, each with a title and a text.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="For models whose chat template has it."
    )
    include_reasoning: bool = Field(True, description="Whether the model's reasoning is part of the answer.")
    max_completion_tokens: AtLeastOne | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _last_message_is_known(self) -> "ChatCompletionRequest":
        require_known_fields(self.messages)
        return self

    @model_validator(mode="after")
    def _fields_agree(self) -> "ChatCompletionRequest":
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            given = f"contradicts max_tokens ({self.max_tokens}), got {self.max_completion_tokens}"
            raise broken_rule("max_completion_tokens", given)
        if self.top_logprobs and not self.logprobs:
            raise broken_rule("top_logprobs", f"only allowed when logprobs is true, got {self.top_logprobs}")
        return self

    @model_validator(mode="after")
    def _tools_agree(self) -> "ChatCompletionRequest":
        names = [tool.function.name for tool in self.tools or ()]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise broken_rule(f"tools.{number}.function.name", f"must not be there twice, got {name!r}")
        if isinstance(self.tool_choice, NamedToolChoice) and self.tool_choice.function.name not in names:
            offered = f"one of tools ({', '.join(names):.200})" if names else "one of tools, and there are none"
            given = self.tool_choice.function.name
            raise broken_rule("tool_choice.function.name", f"must be {offered}, got {given!r}")
        if self.tool_choice == "required" and not names:
            raise broken_rule("tool_choice", "required needs tools, got none")
        return self

    @model_validator(mode="after")
    def _template_options_agree(self) -> "ChatCompletionRequest":
        if self.continue_final_message and self.add_generation_prompt:
            raise broken_rule("continue_final_message", "cannot be combined with add_generation_prompt")
        if self.continue_final_message and self.messages[-1].content is None:
            raise broken_rule("continue_final_message", "needs content in the last message, got null")
        for name in self.chat_template_kwargs:
            if name in RESERVED_VARIABLES:
                raise broken_rule(f"chat_template_kwargs.{name}", "is set by the server and cannot be given here")
        return self

    @property
    def offered_tools(self) -> list[Tool]:
        """The functions that the answer may call."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def forced_tools(self) -> list[Tool]:
        """The functions of which the answer must call one; empty where it need not call any."""
        if isinstance(self.tool_choice, NamedToolChoice):
            name = self.tool_choice.function.name
            return [tool for tool in self.offered_tools if tool.function.name == name]
        return self.offered_tools if self.tool_choice == "required" else []

    def conversation(self, template: str) -> Conversation:
        """What the chat template renders, whose source is `template`."""
        return Conversation(
            messages=[message.for_template(template) for message in self.messages],
            tools=[tool.as_sent() for tool in self.offered_tools] or None,
            documents=self.documents,
            add_generation_prompt=not self.continue_final_message and self.add_generation_prompt is not False,
            continue_final_message=self.continue_final_message,
            variables=self.chat_template_kwargs,
        )

    def token_limit(self) -> TokenLimit:
        """Most tokens of the answer that the request asks for."""
        if self.max_completion_tokens is None:
            return super().token_limit()
        return TokenLimit(self.max_completion_tokens, "max_completion_tokens")

    def logprobs_wanted(self) -> dict[str, int | None]:
        """See GenerationRequest."""
        return super().logprobs_wanted() | {"logprobs": (self.top_logprobs or 0) if self.logprobs else None}


def chat_request(fields: dict[str, Any], context: dict[str, Any] | None = None) -> ChatCompletionRequest:
    """The chat request that another API's became. context: pydantic's. Raises ApiError, in chat's field names, where
    chat's rules forbid it."""
    try:
        return ChatCompletionRequest.model_validate(fields, context=context)
    except ValidationError as error:
        raise invalid_body([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from None


class CompletionRequest(GenerationRequest):
    """POST /v1/completions."""

    neutral = NEUTRAL_FOR_COMPLETIONS
    wishes = wishes.COMPLETIONS

    prompt: Annotated[
        Prompts,
        at_most(MOST_PROMPTS),
        Field(description=f"Text, token ids, or up to {MOST_PROMPTS} of either."),
    ]
    max_tokens: Annotated[int, Field(ge=0)] | None = Field(None, description="Default 16. 0 needs echo.")
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    add_special_tokens: bool = Field(True, description="Put the tokenizer's own tokens, such as bos, before text.")
    echo: bool | None = Field(None, description="Put the prompt before the answer, and its tokens before logprobs.")

    @model_validator(mode="after")
    def _no_tokens_only_with_echo(self) -> "CompletionRequest":
        if self.max_tokens == 0 and not self.echo:
            raise broken_rule("max_tokens", "must be at least 1 without echo, got 0")
        return self

    def token_limit(self) -> TokenLimit:
        """Most tokens of the answer. Where only the prompt is wanted the engine still makes one, to be dropped."""
        return TokenLimit(1 if self.wants_prompt_alone else self.max_tokens, "max_tokens")

    def logprobs_wanted(self) -> dict[str, int | None]:
        """See GenerationRequest. With echo the prompt's tokens are reported as the answer's are."""
        prompt = self.prompt_logprobs
        if self.echo and self.logprobs is not None:
            prompt = max(self.logprobs, prompt or 0)
        return {"logprobs": self.logprobs, "prompt_logprobs": prompt}

    @property
    def wants_prompt_alone(self) -> bool:
        """Whether nothing but the prompt is to come back."""
        return self.max_tokens == 0

    def prompts(self) -> list[str | list[int]]:
        """The prompts, each as text or as token ids."""
        return listed(self.prompt)
