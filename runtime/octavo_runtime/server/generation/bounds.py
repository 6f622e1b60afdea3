"""The bounds that a request must keep to beside the rules of single fields: how many prompts it may bring, and what
fits the model; and what is cut to fit rather than refused."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from pydantic import AfterValidator, Field

from octavo_runtime.protocol.messages import PRIORITY_LIMIT
from octavo_runtime.protocol.reason import Mention, Reason
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.fields.prompts import Prompts, at_most
from octavo_runtime.server.fields.text import valid_unicode
from octavo_runtime.server.http.errors import ApiError, invalid
from octavo_runtime.server.http.record import current_request
from octavo_runtime.server.state import ServedModel

MOST_PROMPTS = 128  # of one request for completions
MOST_INPUTS = 2048  # of one request for embeddings; OpenAI's
Inputs = Annotated[
    Prompts,
    at_most(MOST_INPUTS),
    Field(description=f"Text, token ids, or up to {MOST_INPUTS} of either."),
]
MOST_TOP_LOGPROBS = 20  # beside each token of an answer; OpenAI's
_MOST_PROMPT_LOGPROBS = 2**20  # of one request

AtLeastOne = Annotated[int, Field(ge=1)]
"""A number of tokens that a field asks for; how many fit is for the model to say."""


def _cuts(most: int) -> int:
    if most == 0:
        raise ValueError("must be at least 1, or -1 for the most that the model takes, got 0")
    return most


TruncateTo = Annotated[int, Field(ge=-1), AfterValidator(_cuts)]
TRUNCATES = (
    "Keep only that many tokens of a longer text, or with -1 as many as the model takes: of a model that was made to "
    "embed or to score the first ones, with the tokenizer's tokens around them, else the last ones."
)
Priority = Annotated[int, Field(ge=-PRIORITY_LIMIT, le=PRIORITY_LIMIT)]
CacheSalt = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(valid_unicode)]


class TokenLimit(NamedTuple):
    """Most tokens of the answer that a request asks for, and its field that says so."""

    tokens: int | None
    field: str


def cut_to(model: ServedModel, asked: int | None) -> int | None:
    """How many tokens of a text are read, of what a request asks for; None: all."""
    return model.max_model_len if asked == -1 else asked


def read_tokens(
    model: ServedModel, text: str | list[int], add_special_tokens: bool, most: int | None, front: str = ""
) -> list[int]:
    """The tokens of a text that is only read, behind the text `front`, or of tokens. most: see TruncateTo."""
    first = model.task.task != "generate"
    if isinstance(text, str):
        kept = most if first else None
        text = model.tokenizer.encode(front + text, add_special_tokens=add_special_tokens, most=kept)
    return text if most is None else text[:most] if first else text[-most:]


def check_text(model: ServedModel, characters: int, field: str, last: int | None = None) -> None:
    """Raises ApiError where so many characters cannot be few enough tokens: tokenising megabytes takes seconds. last:
    how many of the tokens are kept; then any text may fit."""
    fewest = characters // model.tokenizer.longest_token
    if last is None and fewest >= model.max_model_len:
        raise _too_long(
            field,
            f"must have at most {model.max_model_len - 1} tokens, got {characters} characters, which are at least "
            f"{fewest}",
        )


def check_prompt(model: ServedModel, prompt: Sequence[int], field: str, *, answered: bool) -> None:
    """Raises ApiError where a prompt (from request field `field`) does not fit the model. answered: whether there must
    be room for an answer behind it; an embedding needs none."""
    limit, got = model.max_model_len, len(prompt)
    if answered and got >= limit:
        room = f"to leave room for an answer within the limit of {limit}"
        raise _too_long(field, f"must have at most {limit - 1} tokens, {room}, got {got}")
    if got > limit:
        raise _too_long(field, f"must have at most {limit} tokens, got {got}")
    check_tokens(model, prompt, field)


def check_tokens(model: ServedModel, tokens: Sequence[int], field: str) -> None:
    """Raises ApiError where there is no token, or one that the model does not know."""
    if not tokens:
        raise invalid(field, "must have at least one token, got none")
    worst = max(tokens) if min(tokens) >= 0 else min(tokens)
    if not 0 <= worst < model.vocab_size:
        raise invalid(field, f"token ids must be from 0 to {model.vocab_size - 1}, got {worst!s:.100}")


def within_room(
    model: ServedModel, prompt: Sequence[int], field: str, params: SamplingParams, asked: TokenLimit
) -> SamplingParams:
    """The parameters with max_tokens cut to what the prompt (from request field `field`) leaves, as clients send one
    number whatever the prompt. Raises ApiError where the server is strict, or more tokens are a must."""
    limit, record = model.max_model_len, current_request()
    room = limit - len(prompt)
    if asked.tokens is None or asked.tokens <= room:
        return params
    if record.strict or params.min_tokens > room:
        both = f" {asked.tokens} make {len(prompt) + asked.tokens}, the limit of both together is {limit}"
        raise _too_long(field, (f"{len(prompt)} prompt tokens and ", Mention("max_tokens"), both))
    record.ignore(asked.field)
    return msgspec.structs.replace(params, max_tokens=room)


def check_prompt_logprobs(top: int | None, tokens: int, field: str) -> None:
    """Raises ApiError where the log-probabilities of so many prompt tokens, and of `top` in the place of each, make too
    large an answer. top: None where they are not asked for; field: the one that asks for them."""
    if top is not None and (number := tokens * (top + 1)) > _MOST_PROMPT_LOGPROBS:
        raise invalid(
            field,
            f"with {tokens} prompt tokens there must be at most {_MOST_PROMPT_LOGPROBS} log-probabilities of them and "
            f"of those in their places, got {number}",
        )


def _too_long(field: str, reason: Reason) -> ApiError:
    return invalid(field, reason, "context_length_exceeded")
