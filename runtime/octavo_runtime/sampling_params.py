"""How the tokens of one request are chosen, and when it ends."""

import math

import msgspec

SEED_LIMIT = 2**63 - 1


class InvalidParameter(ValueError):
    """A request parameter out of bounds. `field` names it; the text says the bound and the value."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters with vLLM's names and meanings; raises InvalidParameter when one is out of bounds.

    temperature 0 takes the likeliest token. top_k 0 (or -1) and top_p 1 keep every token. max_tokens None goes on until
    an end-of-sequence token or the model's limit. Text of `stop` strings is not part of the answer."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, 0.0, 100.0)
        _require("top_p", self.top_p, 0.0, 1.0)
        if self.top_p == 0.0:
            raise InvalidParameter("top_p", "must be above 0, got 0")
        _require("top_k", self.top_k, -1, 2**31 - 1)
        _require("min_p", self.min_p, 0.0, 1.0)
        if self.seed is not None:
            _require("seed", self.seed, -SEED_LIMIT - 1, SEED_LIMIT)
        if self.max_tokens is not None:
            _require("max_tokens", self.max_tokens, 1, 2**31 - 1)
        if len(self.stop) > 16:
            raise InvalidParameter("stop", f"must have at most 16 strings, got {len(self.stop)}")
        for text in self.stop:
            if not 1 <= len(text) <= 1024:
                raise InvalidParameter("stop", f"strings must have 1 to 1024 characters, got {len(text)}")
        if len(self.stop_token_ids) > 1024:
            raise InvalidParameter("stop_token_ids", f"must have at most 1024 ids, got {len(self.stop_token_ids)}")
        for token in self.stop_token_ids:
            _require("stop_token_ids", token, 0, 2**31 - 1)


def _require(field: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise InvalidParameter(field, f"must be from {low:g} to {high:g}, got {value}")
