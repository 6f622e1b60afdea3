"""Log-probabilities in the shapes that clients read, token by token beside the text that they belong to."""

import codecs
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from octavo_runtime.protocol.messages import FinishReason
from octavo_runtime.protocol.step import TokenLogprobs
from octavo_runtime.server.generation.token_logprobs import (
    ChatLogprobs,
    ChosenTokenLogprob,
    CompletionLogprobs,
    TokenLogprob,
)
from octavo_runtime.text.tokenizer import Tokenizer

# JSON has no infinity; this is what OpenAI reports for a token that is as good as impossible.
_LEAST = -9999.0


class Placed(NamedTuple):
    """A token of a choice. offset: where its text begins there, in characters; logprobs: None for the first token of
    a prompt, which nothing predicts."""

    token_id: int
    offset: int
    logprobs: TokenLogprobs | None


class TokenTrail:
    """Which tokens belong to the text that a client has got. Text lags behind its tokens, half a character or what may
    become a stop string, and some tokens never show: the end-of-sequence token, and those of a stop string.

    offset: where the text begins in the choice."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool, offset: int = 0) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoded = self._shown = offset
        self._pending: list[Placed] = []

    def add(
        self,
        token_ids: Sequence[int],
        logprobs: Sequence[TokenLogprobs],
        text: str,
        finish_reason: FinishReason | None,
    ) -> list[Placed]:
        """Takes tokens as they come, with one entry of logprobs each, and the text that the client gets now; the tokens
        that this text shows."""
        for token, entry in zip(token_ids, logprobs, strict=True):
            self._pending.append(Placed(token, self._decoded, entry))
            data = self._tokenizer.token_bytes(token, skip_special_tokens=self._skip_special_tokens)
            self._decoded += len(self._characters.decode(data))
        self._shown += len(text)
        everything = finish_reason == "length"
        shown = [one for one in self._pending if everything or one.offset < self._shown]
        self._pending = self._pending[len(shown) :]
        return shown


def place_prompt(
    tokenizer: Tokenizer, prompt: Sequence[int], logprobs: Sequence[TokenLogprobs], *, skip_special_tokens: bool
) -> Iterator[Placed]:
    """The tokens of an echoed prompt; `logprobs` begin at its second one."""
    echoed = len(tokenizer.decode(prompt, skip_special_tokens=skip_special_tokens))
    pieces = [tokenizer.token_bytes(token, skip_special_tokens=skip_special_tokens) for token in prompt]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    widths = [len(decoder.decode(piece)) for piece in pieces]
    widths[-1] += len(decoder.decode(b"", final=True))
    offset = echoed - sum(widths)  # below 0 where the text's first space is not shown
    for token, width, entry in zip(prompt, widths, [None, *logprobs], strict=True):
        yield Placed(token, max(offset, 0), entry)
        offset += width


def chat_logprobs(tokenizer: Tokenizer, tokens: Sequence[Placed]) -> ChatLogprobs:
    """OpenAI's chat shape."""
    content = []
    for one in tokens:
        assert one.logprobs is not None
        chosen, *top = [
            _token_logprob(tokenizer, token, logprob)
            for token, logprob in zip(one.logprobs.token_ids, one.logprobs.logprobs, strict=True)
        ]
        content.append(
            ChosenTokenLogprob(token=chosen.token, logprob=chosen.logprob, bytes=chosen.bytes, top_logprobs=top)
        )
    return ChatLogprobs(content=content)


def completion_logprobs(tokenizer: Tokenizer, tokens: Sequence[Placed], top: int) -> CompletionLogprobs:
    """OpenAI's completions shape, with the chosen token and the `top` likeliest ones at each place."""
    return CompletionLogprobs(
        tokens=[_completion_token(tokenizer, one.token_id) for one in tokens],
        token_logprobs=[None if one.logprobs is None else _finite(one.logprobs.logprobs[0]) for one in tokens],
        top_logprobs=[None if one.logprobs is None else _by_text(tokenizer, one.logprobs, top) for one in tokens],
        text_offset=[one.offset for one in tokens],
    )


class _PromptLogprob(msgspec.Struct):
    """A PromptLogprob on its way out."""

    logprob: float
    rank: int
    decoded_token: str


def prompt_logprobs(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprobs], top: int) -> msgspec.Raw:
    """PromptLogprobs, vLLM's shape, in JSON: the prompt's own token and the `top` likeliest ones at each place.
    `logprobs` begin at the prompt's second token.

    They may be half a million: place by place, so that other threads get their turn between."""
    encode, texts = msgspec.json.Encoder().encode, dict[int, str]()
    places = [b"null"]
    for one in logprobs:
        for token in one.token_ids[: top + 1]:
            if token not in texts:
                texts[token] = tokenizer.decode([token], skip_special_tokens=False)
        places.append(
            encode(
                {
                    token: _PromptLogprob(_finite(logprob), rank, texts[token])
                    for token, logprob, rank in _entries(one, top)
                }
            )
        )
    return msgspec.Raw(b"[" + b",".join(places) + b"]")


def _entries(logprobs: TokenLogprobs, top: int) -> Iterator[tuple[int, float, int]]:
    return zip(logprobs.token_ids[: top + 1], logprobs.logprobs, logprobs.ranks, strict=False)


def _by_text(tokenizer: Tokenizer, logprobs: TokenLogprobs, top: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for token, logprob, _ in _entries(logprobs, top):
        found.setdefault(_completion_token(tokenizer, token), _finite(logprob))
    return found


def _token_logprob(tokenizer: Tokenizer, token: int, logprob: float) -> TokenLogprob:
    data = tokenizer.token_bytes(token, skip_special_tokens=False)
    return TokenLogprob(token=data.decode("utf-8", "replace"), logprob=_finite(logprob), bytes=list(data))


def _completion_token(tokenizer: Tokenizer, token: int) -> str:
    """A token's text; of one that is part of a character its bytes, which OpenAI spells `bytes:\\xe2\\x80`."""
    data = tokenizer.token_bytes(token, skip_special_tokens=False)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST)
