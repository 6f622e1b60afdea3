"""Tables of the rotary position embedding (Su et al. 2021), with the scalings that Llama-shaped models use."""

import math

import torch

from octavo_runtime.models.spec import DividedRope, LinearRope, Llama3Rope, ModelSpec


def rope_table(spec: ModelSpec, positions: int, device: torch.device) -> torch.Tensor:
    """[positions, head_dim] float32: the cosines in the first half of a row, the sines in the second."""
    frequencies = _inverse_frequencies(spec)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1).to(device)


def _inverse_frequencies(spec: ModelSpec) -> torch.Tensor:
    exponents = torch.arange(0, spec.head_dim, 2, dtype=torch.int64).float() / spec.head_dim
    plain = 1.0 / (spec.rope_theta**exponents)
    match spec.rope_scaling:
        case None:
            return plain
        case LinearRope(factor):
            return plain / factor
        case DividedRope(divisors):
            return plain / torch.tensor(divisors)
        case Llama3Rope() as scaling:
            return _llama3(plain, scaling)


def _llama3(plain: torch.Tensor, scaling: Llama3Rope) -> torch.Tensor:
    low, high, old_context = scaling.low_freq_factor, scaling.high_freq_factor, scaling.original_max_position
    wavelengths = 2 * math.pi / plain
    blend = (old_context / wavelengths - low) / (high - low)
    blended = (1 - blend) * plain / scaling.factor + blend * plain
    scaled = torch.where(wavelengths > old_context / low, plain / scaling.factor, plain)
    between = (wavelengths <= old_context / low) & (wavelengths >= old_context / high)
    return torch.where(between, blended, scaled)
