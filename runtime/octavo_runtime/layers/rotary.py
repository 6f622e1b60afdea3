"""The rotary position embedding (Su et al. 2021), with the scalings that Llama-shaped models use."""

import math

import torch
from torch import Tensor

from octavo_runtime.layers.rope_scaling import (
    DividedRope,
    LinearRope,
    Llama3Rope,
    LongRope,
    RopeScaling,
    YarnRope,
)


class RotaryEmbedding:
    """How queries and keys, of each head the first `rotated` entries, are turned by their positions. One serves all
    layers that turn alike.

    table: [positions, rotated] float32, the cosines in the first half of a row, the sines in the second."""

    table: Tensor

    def __init__(self, rotated: int, theta: float, scaling: RopeScaling | None, device: torch.device) -> None:
        self._frequencies = _inverse_frequencies(rotated, theta, scaling)
        self._amplitude = scaling.attention_factor if isinstance(scaling, YarnRope | LongRope) else 1.0
        self._device = device
        self.reach(1)

    def reach(self, positions: int) -> None:
        """Makes the table for positions below `positions`: how long a sequence may become is known only when the
        weights are loaded and the rest of the memory is shared out."""
        angles = torch.outer(torch.arange(positions, dtype=torch.float32), self._frequencies)
        table = torch.cat((angles.cos(), angles.sin()), dim=-1) * self._amplitude
        self.table = table.to(self._device)

    def turned(self, states: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys [tokens, heads, head_dim], where something comes between their turning and the cache; else
        see rotary_write_kv. positions: [tokens] int64."""
        cos, sin = self.table[positions].unsqueeze(1).chunk(2, dim=-1)
        rotated = self.table.shape[1]
        first, second = states[..., :rotated].float().chunk(2, dim=-1)
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        return torch.cat((turned.to(states.dtype), states[..., rotated:]), dim=-1)


def _inverse_frequencies(rotated: int, theta: float, scaling: RopeScaling | None) -> Tensor:
    exponents = torch.arange(0, rotated, 2, dtype=torch.int64).float() / rotated
    plain = 1.0 / (theta**exponents)
    match scaling:
        case None:
            return plain
        case LinearRope(factor):
            return plain / factor
        case DividedRope(divisors) | LongRope(divisors):
            return plain / torch.tensor(divisors)
        case Llama3Rope():
            return _llama3(plain, scaling)
        case YarnRope():
            return _yarn(plain, rotated, theta, scaling)


def _llama3(plain: Tensor, scaling: Llama3Rope) -> Tensor:
    low, high, old_context = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position
    wavelengths = 2 * math.pi / plain
    blend = (old_context / wavelengths - low) / (high - low)
    blended = (1 - blend) * plain / scaling.factor + blend * plain
    scaled = torch.where(wavelengths > old_context / low, plain / scaling.factor, plain)
    between = (wavelengths <= old_context / low) & (wavelengths >= old_context / high)
    return torch.where(between, blended, scaled)


def _yarn(plain: Tensor, rotated: int, theta: float, scaling: YarnRope) -> Tensor:
    def dimension(turns: float) -> float:
        """The pair of dimensions, as a real number, that turns so often within the original context."""
        return rotated * math.log(scaling.original_max_position / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    if low == high:
        high += 0.001  # a ramp needs a width
    ramp = ((torch.arange(rotated // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return plain * (1 - ramp) + plain / scaling.factor * ramp
