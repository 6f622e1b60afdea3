"""What clients get: OpenAI's response objects (platform.openai.com/docs/api-reference), and what vLLM adds to them:
stop_reason, prompt_logprobs, token_ids and prompt_token_ids."""

from typing import Literal

from pydantic import BaseModel

from octavo_runtime import __version__
from octavo_runtime.messages import FinishReason

SYSTEM_FINGERPRINT = f"octavo-{__version__}"


class PromptTokensDetails(BaseModel):
    """cached_tokens: prompt tokens that the prefix cache held."""

    cached_tokens: int


class Usage(BaseModel):
    """Token counts of a request, all its answers together; with best_of, those that were not returned too."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TokenLogprob(BaseModel):
    """A token's text, log-probability (natural, at least -9999) and UTF-8 bytes."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenTokenLogprob(TokenLogprob):
    """A token of the answer, and the likeliest tokens in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(BaseModel):
    """One entry for each token that shows text."""

    content: list[ChosenTokenLogprob]
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """Parallel lists, an entry for each token that shows text. text_offset: where it begins in the choice's text, in
    characters. An echoed prompt's first token has no log-probability."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class PromptLogprob(BaseModel):
    """A token that might stand at a place of the prompt. rank: 1 for the likeliest."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[int, PromptLogprob] | None]
"""For each prompt token, by token id, that token and the likeliest ones; None for the first."""


class AssistantMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """A whole chat answer. stop_reason: the stop string or token id that ended it."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None


class ChatCompletion(BaseModel):
    """The answer to a chat request."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class ChatChunkChoice(BaseModel):
    """A piece of a chat answer. `delta`: role in the first, content in those with text."""

    index: int
    delta: dict[str, str]
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None


class ChatCompletionChunk(BaseModel):
    """One event of a streamed answer. `usage` is null but in the last chunk, where the client asked for it;
    `prompt_token_ids` but in the first of each choice."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str
    prompt_token_ids: list[int] | None = None


class CompletionChoice(BaseModel):
    """An answer to one prompt, or a piece of it. Answer k to prompt p has the index p * n + k."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


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
