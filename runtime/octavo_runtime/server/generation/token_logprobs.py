"""Log-probabilities as OpenAI's APIs show them."""

from pydantic import BaseModel


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
