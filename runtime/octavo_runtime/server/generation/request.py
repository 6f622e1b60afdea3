"""What both kinds of request for an answer have in common: how its tokens are chosen, and when it ends. OpenAI's names
(platform.openai.com/docs/api-reference) and vLLM's (docs.vllm.ai, OpenAI-compatible server)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from octavo_runtime.protocol.reason import as_text
from octavo_runtime.protocol.sampling_params import MAX_SEQUENCES, InvalidParameter, SamplingParams
from octavo_runtime.server.fields.json_list import ListOf
from octavo_runtime.server.fields.nulls import null_is_absent
from octavo_runtime.server.fields.rule import broken_rule
from octavo_runtime.server.fields.text import Text
from octavo_runtime.server.fields.unsupported import WITHOUT_EFFECT, without_unsupported
from octavo_runtime.server.generation.answer_form import AnswerForm, ResponseFormat, Schema, StructuredOutputs, guided
from octavo_runtime.server.generation.bounds import AtLeastOne, CacheSalt, Priority, TokenLimit
from octavo_runtime.server.generation.wishes import Wishes, set_aside
from octavo_runtime.text.sampling_defaults import SamplingDefaults

_MOST_ID_DIGITS = 10

# Fields that mean in SamplingParams what they mean here.
_SAME = (
    "n",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "min_tokens",
    "ignore_eos",
    "stop_token_ids",
    "allowed_token_ids",
    "bad_words",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "truncate_prompt_tokens",
    "length_penalty",
    "early_stopping",
)


class StreamOptions(BaseModel):
    """Options of a stream. include_usage: one more chunk at the end, with the token counts; continuous_usage_stats: the
    counts so far in every chunk too. include_obfuscation only pads chunks, and is accepted without effect."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: bool = False
    _nulls = null_is_absent


class GenerationRequest(BaseModel):
    """A field that would change the answer and is not supported, or that nobody defines, is refused by name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]]
    """Fields of what is not supported, with the values that ask for nothing."""
    wishes: ClassVar[Wishes]
    """See generation.wishes."""

    model: str | None = Field(None, description="Default: the served one.")
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_SEQUENCES)] | None = None
    max_tokens: AtLeastOne | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = Field(None, description="Token ids, as strings, to -100 up to 100.")
    allowed_token_ids: ListOf[int] | None = None
    bad_words: ListOf[Text] | None = None
    seed: int | None = None
    stop: Text | ListOf[Text] | None = None
    stop_token_ids: ListOf[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    truncate_prompt_tokens: int | None = Field(
        None,
        description="Keep only that many of the prompt's last tokens, or with -1 as many as the model's length leaves "
        "beside max_tokens.",
    )
    prompt_logprobs: int | None = None
    return_token_ids: bool | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | Text | None = None
    guided_regex: Text | None = None
    guided_choice: ListOf[Text] | None = None
    guided_grammar: Text | None = None
    use_beam_search: bool = Field(False, description="Search with best_of beams, or n, and return the n best.")
    length_penalty: float | None = None
    early_stopping: bool | None = None
    priority: Priority = Field(0, description="Lower goes first, where the engine's scheduling policy is priority.")
    cache_salt: CacheSalt | None = Field(
        None, description="Requests share cached prefixes only with those of the same salt."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_unsupported(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # null is as good as nothing, whatever type a field has.
        given = {name: one for name, one in value.items() if one is not None or name not in cls.model_fields}
        return without_unsupported(set_aside(given, cls.wishes), WITHOUT_EFFECT, cls.neutral)

    @model_validator(mode="after")
    def _without_contradictions(self) -> "GenerationRequest":
        if self.stream_options is not None and not self.stream:
            raise broken_rule("stream_options", "only allowed when stream is true")
        n = 1 if self.n is None else self.n
        if self.best_of is not None and self.best_of < n:
            raise broken_rule("best_of", f"must be at least n ({n}), got {self.best_of}")
        if self.stream and self.best_of not in (None, n) and not self.use_beam_search:
            rule = f"must be n ({n}) in a stream, which cannot take an answer back, got {self.best_of}"
            raise broken_rule("best_of", rule)
        if self.stream and self.prompt_logprobs is not None:
            raise broken_rule("prompt_logprobs", f"not available in a stream, got {self.prompt_logprobs}")
        return self

    def sampling_params(
        self, default_max_tokens: int | None, defaults: SamplingDefaults, form: AnswerForm | None
    ) -> SamplingParams:
        """The engine's parameters. default_max_tokens: the API's own, of which and of the model's the lesser counts;
        form: see answer_form. Raises InvalidParameter."""
        limits = [limit for limit in (default_max_tokens, defaults.get("max_tokens")) if limit is not None]
        # Beams are compared by what the model finds likely, without what shapes a draw.
        usual = {} if self.use_beam_search else {name: defaults[name] for name in defaults if name != "max_tokens"}
        given = usual | {name: getattr(self, name) for name in _SAME if getattr(self, name) is not None}
        given |= {name: top for name, top in self.logprobs_wanted().items() if top is not None}
        if self.use_beam_search:
            for name in ("logprobs", "prompt_logprobs"):
                if name in given:
                    raise InvalidParameter(name, f"cannot be combined with use_beam_search, got {given[name]}")
            given["beam_width"] = self.best_of or self.n or 1
        elif self.best_of is not None:
            given["best_of"] = self.best_of
        max_tokens = self.token_limit().tokens
        try:
            return SamplingParams(
                **given,
                max_tokens=min(limits, default=None) if max_tokens is None else max_tokens,
                stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
                logit_bias=_biases(self.logit_bias or {}),
                structured_outputs=None if form is None else form.output,
            )
        except InvalidParameter as error:
            # Forms are asked for by other names here.
            field = form.field if form is not None and error.field == "structured_outputs" else error.field
            raise InvalidParameter(field, as_text(error.reason, asked_as)) from None

    def answer_form(self) -> AnswerForm | None:
        """The form that the answer must have. Raises InvalidParameter where several fields ask for one."""
        forms = [] if self.response_format is None else self.response_format.forms()
        if self.structured_outputs is not None:
            forms += self.structured_outputs.forms()
        if self.guided_json is not None:
            forms.append(guided("json", self.guided_json))
        if self.guided_regex is not None:
            forms.append(guided("regex", self.guided_regex))
        if self.guided_choice is not None:
            forms.append(guided("choice", self.guided_choice))
        if self.guided_grammar is not None:
            forms.append(guided("grammar", self.guided_grammar))
        if len(forms) > 1:
            raise InvalidParameter(forms[1].field, f"cannot be combined with {forms[0].field}")
        return forms[0] if forms else None

    def token_limit(self) -> TokenLimit:
        """Most tokens of the answer that the request asks for."""
        return TokenLimit(self.max_tokens, "max_tokens")

    def logprobs_wanted(self) -> dict[str, int | None]:
        """SamplingParams' logprobs and prompt_logprobs: how many of the likeliest tokens to report at each position,
        beside the one that stands there; None: nothing."""
        return {"prompt_logprobs": self.prompt_logprobs}

    @property
    def wants_usage(self) -> bool:
        """Whether the stream ends with a chunk of token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def wants_continuous_usage(self) -> bool:
        """Whether every chunk of the stream has the token counts so far."""
        return self.wants_usage and self.stream_options is not None and self.stream_options.continuous_usage_stats


def asked_as(parameter: str) -> str:
    """The field of a request that asks for what the engine knows as this parameter."""
    return "use_beam_search" if parameter == "beam_width" else parameter


def _biases(given: dict[str, float]) -> dict[int, float]:
    for token in given:
        if not (token.isascii() and token.isdecimal() and len(token) <= _MOST_ID_DIGITS):
            raise InvalidParameter("logit_bias", f"keys must be token ids, got {token!r:.100}")
    return {int(token): bias for token, bias in given.items()}
