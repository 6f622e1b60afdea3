"""Tables of the rotary position embedding (Su et al. 2021), with the scalings that Llama-shaped models use."""

import math

import torch

from octavo_runtime.model.spec import ModelSpec


def rope_table(spec: ModelSpec, positions: int, device: torch.device) -> torch.Tensor:
    """[positions, head_dim] float32: the cosines in the first half of a row, the sines in the second."""
    frequencies = _inverse_frequencies(spec)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1).to(device)


def _inverse_frequencies(spec: ModelSpec) -> torch.Tensor:
    exponents = torch.arange(0, spec.head_dim, 2, dtype=torch.int64).float() / spec.head_dim
    plain = 1.0 / (spec.rope_theta**exponents)
    scaling = spec.rope_scaling
    if scaling is None:
        return plain
    factor = float(scaling["factor"])
    if scaling["rope_type"] == "linear":
        return plain / factor
    # llama3: long waves are slowed down by `factor`, short ones kept, those between blended.
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    old_context = float(scaling["original_max_position_embeddings"])
    wavelengths = 2 * math.pi / plain
    blend = (old_context / wavelengths - low) / (high - low)
    blended = (1 - blend) * plain / factor + blend * plain
    scaled = torch.where(wavelengths > old_context / low, plain / factor, plain)
    between = (wavelengths <= old_context / low) & (wavelengths >= old_context / high)
    return torch.where(between, blended, scaled)
