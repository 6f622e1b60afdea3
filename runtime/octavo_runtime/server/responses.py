"""What clients get: OpenAI's response objects (platform.openai.com/docs/api-reference)."""

from typing import Literal

from pydantic import BaseModel

from octavo_runtime import __version__

SYSTEM_FINGERPRINT = f"octavo-{__version__}"

FinishReason = Literal["stop", "length"]


class Usage(BaseModel):
    """Token counts of a request, all its answers together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """A whole chat answer."""

    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The answer to a chat request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str


class ChatChunkChoice(BaseModel):
    """A piece of a chat answer. `delta`: role in the first, content in those with text."""

    index: int
    delta: dict[str, str]
    logprobs: None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(BaseModel):
    """One event of a streamed answer. `usage` is null but in the last chunk, where the client asked for it."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str


class CompletionChoice(BaseModel):
    """The answer to one prompt, or a piece of it."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: FinishReason | None = None


class Completion(BaseModel):
    """The answer to a completion request, and one event of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str


class Model(BaseModel):
    """A name that the model is served by. max_model_len: null while it loads."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["octavo"] = "octavo"
    max_model_len: int | None


class ModelList(BaseModel):
    """All served names."""

    object: Literal["list"] = "list"
    data: list[Model]
