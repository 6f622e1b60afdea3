"""The requests of a comparison: random prompts, since an engine's speed depends on lengths alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Job:
    """One request: token ids, tokens to generate, and its arrival in seconds after the start."""

    prompt: list[int]
    output_len: int
    arrival: float = 0.0


def random_prompt(generator: np.random.Generator, length: int, vocab_size: int) -> list[int]:
    """`length` token ids, each from 0 to vocab_size - 1."""
    return [int(token) for token in generator.integers(0, vocab_size, length)]


def lognormal_lengths(generator: np.random.Generator, count: int, median: float, most: int) -> list[int]:
    """`count` lengths with a long tail, as requests have them, from 1 to `most`. Sigma 0.8 is near what Kwon et al.
    2023 show for ShareGPT's answers."""
    drawn = generator.lognormal(np.log(median), 0.8, count)
    return [int(length) for length in np.clip(drawn, 1, most)]


def poisson_arrivals(generator: np.random.Generator, count: int, rate: float) -> list[float]:
    """Arrivals of a Poisson process of `rate` a second; all at 0 for rate 0."""
    if rate == 0:
        return [0.0] * count
    return [float(moment) for moment in np.cumsum(generator.exponential(1 / rate, count))]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` percent of the values do not exceed, interpolated."""
    return float(np.percentile(np.asarray(values), share))
