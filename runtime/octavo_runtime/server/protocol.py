"""What clients may send: OpenAI's request objects (platform.openai.com/docs/api-reference).

Strict: a field that would change the answer and is not supported, or that nobody defines, is refused by name."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from octavo_runtime.sampling_params import SamplingParams

_MOST_PROMPTS = 128
# Fields that cannot change the answer here, whatever their value.
_WITHOUT_EFFECT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "parallel_tool_calls",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
# Fields of features that are not supported, with the values that ask for nothing.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "logprobs": (None, False),
    "top_logprobs": (None,),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "service_tier": (None, "auto", "default"),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None,),
    "verbosity": (None,),
    "web_search_options": (None,),
}


def _valid_unicode(text: str) -> str:
    # JSON can spell half of a surrogate pair, which no tokenizer takes; pydantic lets it pass inside unions.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"must be valid Unicode, has half a surrogate pair at character {error.start}") from None
    return text


Text = Annotated[str, AfterValidator(_valid_unicode)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    stream: bool = False
    stream_options: "StreamOptions | None" = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: Text | list[Text] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False

    @model_validator(mode="before")
    @classmethod
    def _without_neutral_fields(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, given in value.items():
            if name in _WITHOUT_EFFECT:
                continue
            if name in _NEUTRAL:
                _require_neutral(name, given)
            else:
                kept[name] = given
        return kept

    @model_validator(mode="after")
    def _usage_only_in_streams(self) -> "_Request":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only allowed when stream is true")
        return self

    def sampling_params(self, default_max_tokens: int | None) -> SamplingParams:
        """The engine's parameters. Raises InvalidParameter."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        max_tokens = self.token_limit()
        return SamplingParams(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            seed=self.seed,
            max_tokens=default_max_tokens if max_tokens is None else max_tokens,
            stop=tuple(stop),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=self.ignore_eos,
        )

    def token_limit(self) -> int | None:
        """Most tokens of the answer that the request asks for."""
        return self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with a chunk of token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


class StreamOptions(BaseModel):
    """Options of a stream. include_obfuscation only pads chunks, and is accepted without effect."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    include_obfuscation: bool | None = None


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


class ChatCompletionRequest(_Request):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> "ChatCompletionRequest":
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError(
                f"max_completion_tokens: contradicts max_tokens ({self.max_tokens}), got {self.max_completion_tokens}"
            )
        return self

    def token_limit(self) -> int | None:
        """Most tokens of the answer that the request asks for."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


def _checked_prompt(value: Any) -> Any:
    """Here rather than by pydantic, which would test and report four types token by token."""
    items = value if isinstance(value, list) else [value]
    if items and _all(items, str):
        for item in items:
            _valid_unicode(item)
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


class CompletionRequest(_Request):
    """POST /v1/completions."""

    prompt: Annotated[
        str | list[str] | list[int] | list[list[int]],
        BeforeValidator(_checked_prompt),
        Field(description=f"Text, token ids, or up to {_MOST_PROMPTS} of either."),
    ]

    def prompts(self) -> list[str | list[int]]:
        """The prompts, each as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if all(isinstance(item, int) for item in self.prompt):
            return [[item for item in self.prompt if isinstance(item, int)]]
        return [item for item in self.prompt if not isinstance(item, int)]


def _require_neutral(name: str, given: Any) -> None:
    neutral = _NEUTRAL[name]
    if not any(given == value and isinstance(given, bool) == isinstance(value, bool) for value in neutral):
        allowed = " or ".join(_as_json(value) for value in neutral if value is not None)
        remedy = f"leave it out or send {allowed}" if allowed else "leave it out"
        raise ValueError(f"{name}: not supported; {remedy}, got {given!r:.100}")


def _as_json(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("'", '"') if not isinstance(value, str) else f'"{value}"'
