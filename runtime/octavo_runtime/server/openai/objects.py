"""What clients get: OpenAI's response objects (platform.openai.com/docs/api-reference), and what vLLM adds to them:
stop_reason, prompt_logprobs, token_ids and prompt_token_ids."""

from typing import Literal

from pydantic import BaseModel, Field

from octavo_runtime import __version__
from octavo_runtime.protocol.messages import FinishReason
from octavo_runtime.protocol.text_task import Task
from octavo_runtime.server.fields.nulls import is_null
from octavo_runtime.server.generation.pieces import AnswerFinishReason
from octavo_runtime.server.generation.token_logprobs import ChatLogprobs, CompletionLogprobs
from octavo_runtime.server.generation.usage import Usage

SYSTEM_FINGERPRINT = f"octavo-{__version__}"


class PromptLogprob(BaseModel):
    """A token that might stand at a place of the prompt. rank: 1 for the likeliest."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[int, PromptLogprob] | None]
"""For each prompt token, by token id, that token and the likeliest ones; None for the first."""


class FunctionCall(BaseModel):
    """arguments: JSON text as the model wrote it."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A function that the model wants called."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class AssistantMessage(BaseModel):
    """What the model said. content: null where it only called tools or reasoned. reasoning and reasoning_content are
    equal; what OpenAI's API does not have is left out where it is null, and tool_calls where there are none."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning: str | None = Field(None, exclude_if=is_null)
    reasoning_content: str | None = Field(None, exclude_if=is_null)
    tool_calls: list[ToolCall] = Field(default_factory=list, exclude_if=lambda calls: not calls)


class ChatChoice(BaseModel):
    """A whole chat answer. stop_reason: the stop string or token id that ended it."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: AnswerFinishReason
    stop_reason: str | int | None = Field(None, exclude_if=is_null)
    token_ids: list[int] | None = Field(None, exclude_if=is_null)


class ChatCompletion(BaseModel):
    """The answer to a chat request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    prompt_logprobs: PromptLogprobs | None = Field(None, exclude_if=is_null)
    prompt_token_ids: list[int] | None = Field(None, exclude_if=is_null)


class CompletionChoice(BaseModel):
    """An answer to one prompt. Answer k to prompt p has the index p * n + k."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class Completion(BaseModel):
    """The answer to a completion request."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str


class Model(BaseModel):
    """A name that the model is served by. max_model_len, and task, which is what it was made for: null while it
    loads."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["octavo"] = "octavo"
    max_model_len: int | None
    task: Task | None = None


class ModelList(BaseModel):
    """All served names."""

    object: Literal["list"] = "list"
    data: list[Model]
