"""How a rotary embedding's frequencies are scaled for contexts longer than the first training's. Free of torch."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class LinearRope:
    """Positions divided by `factor`."""

    factor: float


@dataclass(frozen=True)
class Llama3Rope:
    """Long waves slowed down by `factor`, short ones kept, those between blended; config.json's `llama3`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position: int


@dataclass(frozen=True)
class YarnRope:
    """Long waves divided by `factor`, short ones kept, a ramp between; queries and keys times `attention_factor`
    (YaRN, Peng et al. 2023). beta_fast, beta_slow: turns within the original context at which the ramp begins and
    ends; `truncate` rounds its ends to whole dimensions."""

    factor: float
    original_max_position: int
    beta_fast: float
    beta_slow: float
    attention_factor: float
    truncate: bool


@dataclass(frozen=True)
class DividedRope:
    """Each frequency divided by a number of its own, head_dim / 2 of them: rope_freqs.weight of a GGUF file."""

    divisors: tuple[float, ...]


@dataclass(frozen=True)
class LongRope:
    """LongRoPE (Ding et al. 2024): each frequency divided by a number of its own, one for each turned pair; queries and
    keys times `attention_factor`. Sequences longer than the original context have others, also for their first
    tokens."""

    divisors: tuple[float, ...]
    attention_factor: float
    original_max_position: int
    long_divisors: tuple[float, ...]
    long_attention_factor: float

    def for_requests(self, longest: int) -> "LongRope":
        """Where requests may have `longest` tokens: one way to turn the keys of all (docs/adr/0013)."""
        if longest <= self.original_max_position:
            return self
        return replace(self, divisors=self.long_divisors, attention_factor=self.long_attention_factor)


RopeScaling = LinearRope | Llama3Rope | YarnRope | DividedRope | LongRope
