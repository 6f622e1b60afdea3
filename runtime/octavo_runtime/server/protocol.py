"""What clients may send: OpenAI's request objects (platform.openai.com/docs/api-reference)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from octavo_runtime.server.generation_request import MOST_TOP_LOGPROBS, GenerationRequest
from octavo_runtime.server.text import Text, valid_unicode

_MOST_PROMPTS = 128


class TextPart(BaseModel):
    """One part of a message's content."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    @model_validator(mode="before")
    @classmethod
    def _without_empty_fields(cls, value: Any) -> Any:
        # SDKs send an answer back as they got it, with null for what it did not have.
        empty = ("name", "refusal", "tool_calls", "function_call", "audio", "annotations", "reasoning_content")
        if not isinstance(value, dict):
            return value
        return {name: given for name, given in value.items() if name not in empty or given not in (None, [])}

    def for_template(self) -> dict[str, str]:
        """The message as chat templates read it."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatCompletionRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None

    @model_validator(mode="after")
    def _fields_agree(self) -> "ChatCompletionRequest":
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError(
                f"max_completion_tokens: contradicts max_tokens ({self.max_tokens}), got {self.max_completion_tokens}"
            )
        if self.top_logprobs and not self.logprobs:
            raise ValueError(f"top_logprobs: only allowed when logprobs is true, got {self.top_logprobs}")
        return self

    def token_limit(self) -> int | None:
        """Most tokens of the answer that the request asks for."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def logprobs_wanted(self) -> dict[str, int | None]:
        """See GenerationRequest."""
        return super().logprobs_wanted() | {"logprobs": (self.top_logprobs or 0) if self.logprobs else None}


def _checked_prompt(value: Any) -> Any:
    """Here rather than by pydantic, which would test and report four types token by token."""
    items = value if isinstance(value, list) else [value]
    if items and _all(items, str):
        for item in items:
            valid_unicode(item)
        return _bounded(value)
    if isinstance(value, list) and items and _all(items, int):
        return value
    if items and _all(items, list) and all(item and _all(item, int) for item in items):
        return _bounded(value)
    raise ValueError("must be a string, a list of strings, a list of token ids or a list of such lists, none empty")


def _bounded(prompts: Any) -> Any:
    if isinstance(prompts, list) and len(prompts) > _MOST_PROMPTS:
        raise ValueError(f"must be at most {_MOST_PROMPTS} prompts, these are {len(prompts)}")
    return prompts


def _all(items: list[Any], kind: type) -> bool:
    return all(type(item) is kind for item in items)


class CompletionRequest(GenerationRequest):
    """POST /v1/completions."""

    prompt: Annotated[
        str | list[str] | list[int] | list[list[int]],
        BeforeValidator(_checked_prompt),
        Field(description=f"Text, token ids, or up to {_MOST_PROMPTS} of either."),
    ]
    max_tokens: Annotated[int, Field(ge=0)] | None = Field(None, description="Default 16. 0 needs echo.")
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    echo: bool | None = Field(None, description="Put the prompt before the answer, and its tokens before logprobs.")

    @model_validator(mode="after")
    def _no_tokens_only_with_echo(self) -> "CompletionRequest":
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens: must be at least 1 without echo, got 0")
        return self

    def token_limit(self) -> int | None:
        """Most tokens of the answer. Where only the prompt is wanted the engine still makes one, to be dropped."""
        return 1 if self.wants_prompt_alone else self.max_tokens

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
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(item, int) for item in self.prompt):
            return [[item for item in self.prompt if isinstance(item, int)]]
        return [item for item in self.prompt if not isinstance(item, int)]
