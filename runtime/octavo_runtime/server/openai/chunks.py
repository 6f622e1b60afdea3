"""The events of a streamed answer: OpenAI's chunk objects, as structs, for a busy server encodes very many of them.
What a whole answer has in common with them is in responses.py."""

from typing import Literal

import msgspec

from octavo_runtime.protocol.messages import FinishReason
from octavo_runtime.server.generation.pieces import AnswerFinishReason
from octavo_runtime.server.generation.token_logprobs import ChatLogprobs, CompletionLogprobs
from octavo_runtime.server.generation.usage import Usage
from octavo_runtime.server.openai.objects import ChatChoice


class FunctionDelta(msgspec.Struct, omit_defaults=True):
    """A piece of a call: the function's name in the first, then its arguments' JSON text."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, omit_defaults=True):
    """A piece of the call `index` of one answer; `id` and `type` in the first alone."""

    index: int
    function: FunctionDelta
    id: str | None = None
    type: Literal["function"] | None = None


class ChatDelta(msgspec.Struct, omit_defaults=True):
    """What a chunk adds to a message; what it does not add is left out. reasoning and reasoning_content are equal."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChatChunkChoice(msgspec.Struct, kw_only=True):
    """A piece of the chat answer `index`."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: AnswerFinishReason | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None


class ChatCompletionChunk(msgspec.Struct, kw_only=True):
    """One event of a streamed chat answer. `usage` is null but in the last chunk, where the client asked for it, or in
    every one, where it asked for that; `prompt_token_ids` but in the first of each choice."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice] = []
    usage: Usage | None = None
    system_fingerprint: str
    prompt_token_ids: list[int] | None = None


class CompletionChunkChoice(msgspec.Struct, kw_only=True):
    """A piece of the completion `index`. prompt_logprobs: responses.PromptLogprobs."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    prompt_logprobs: msgspec.Raw | None = None
    prompt_token_ids: list[int] | None = None


class CompletionChunk(msgspec.Struct, kw_only=True):
    """One event of a streamed completion, or a Completion on its way out."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChunkChoice] = []
    usage: Usage | None = None
    system_fingerprint: str


class ChatAnswer(msgspec.Struct, kw_only=True):
    """A ChatCompletion on its way out, where it has log-probabilities."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str
    prompt_logprobs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt_token_ids: list[int] | None = None
