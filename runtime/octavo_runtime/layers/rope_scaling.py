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
class DividedRope:
    """Each frequency divided by a number of its own, head_dim / 2 of them: rope_freqs.weight of a GGUF file."""

    divisors: tuple[float, ...]


RopeScaling = LinearRope | Llama3Rope | DividedRope
