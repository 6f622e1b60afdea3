"""How a rotary embedding's frequencies are scaled for contexts longer than the first training's. Free of torch."""

from dataclasses import dataclass


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
    """LongRoPE (Ding et al. 2024) within the original context: each frequency divided by a number of its own, one for
    each turned pair; queries and keys times `attention_factor`. Beyond it a sequence has other divisors, also for its
    first tokens."""

    divisors: tuple[float, ...]
    attention_factor: float
    original_max_position: int


RopeScaling = LinearRope | Llama3Rope | YarnRope | DividedRope | LongRope
