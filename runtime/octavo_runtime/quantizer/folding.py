"""Where AWQ's factors go: into the norm, the values or the MLP's upper half that bring a projection its input."""

from collections.abc import Sequence

import torch
from torch import Tensor

from octavo_runtime.models.loading.weights import Fused, by_parts, layer_projections
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix
from octavo_runtime.quantizer.awq import best_scales
from octavo_runtime.quantizer.inputs import Inputs
from octavo_runtime.quantizer.recipe import Recipe


def fold_scales(
    tensors: dict[str, Tensor], inputs: Sequence[Inputs], spec: ModelSpec, index: int, recipe: Recipe
) -> list[Inputs]:
    """The inputs as they are with the factors folded in. tensors: a layer's, the projections' float32; changed in place
    of one another, so that the layer computes what it did. What has nothing before it that is linear keeps its
    inputs."""
    at, names = layer_prefix(index), spec.tensors
    parts = layer_projections(spec, index)
    qkv, output, gate_up, down = range(4)
    found = list(inputs)

    def search(places: Sequence[int], sharing: Tensor | None = None) -> Tensor:
        weights = [tensors[f"{at}{name}.weight"] for place in places for name in parts[place].rows]
        columns = parts[places[0]].columns
        return best_scales(weights, found[places[0]], recipe.group_size or columns, sharing)

    def multiply(places: Sequence[int], scales: Tensor) -> None:
        for place in places:
            for name in parts[place].rows:
                tensors[f"{at}{name}.weight"] = tensors[f"{at}{name}.weight"] * scales
            found[place] = found[place].scaled(scales)

    def fold_into_norm(norm: str, places: Sequence[int]) -> None:
        multiply(places, _divided_norm(tensors, at + norm, spec.norm_offset, search(places)))

    reads_both = spec.is_parallel and names.mlp_norm is None
    if names.attention_norm is not None:
        fold_into_norm(names.attention_norm, (qkv, gate_up) if reads_both else (qkv,))
    if names.mlp_norm is not None:
        fold_into_norm(names.mlp_norm, (gate_up,))

    device = found[output].sizes.device
    heads, kv_heads, width = spec.num_heads, spec.num_kv_heads, spec.head_dim
    values = torch.arange(kv_heads * width, device=device).view(kv_heads, 1, width)
    scales = search((output,), values.expand(-1, heads // kv_heads, -1).flatten())
    rows = by_parts(spec) if spec.qkv_by_groups else torch.arange(spec.qkv_size)
    of_values = scales.view(kv_heads, -1, width)[:, 0].flatten()
    _divide_rows(tensors, at, parts[qkv], rows[-kv_heads * width :], of_values)
    multiply((output,), scales)

    if spec.is_gated:  # what multiplies the gate is linear; an activation is not
        scales = search((down,))
        inner = spec.intermediate_size
        _divide_rows(tensors, at, parts[gate_up], torch.arange(inner, 2 * inner), scales)
        multiply((down,), scales)
    return found


def _divided_norm(tensors: dict[str, Tensor], norm: str, offset: float, scales: Tensor) -> Tensor:
    """Divides a norm's weight by scales [hidden], and says by how much that is in the type that it is stored in: what
    multiplies the next weights then makes up for it exactly."""
    stored = tensors[f"{norm}.weight"]
    weight = stored.float() + offset
    divided = (weight / scales - offset).to(stored.dtype)
    factors = weight / (divided.float() + offset)
    usable = factors.isfinite() & (factors > 0)
    factors = torch.where(usable, factors, 1.0)
    tensors[f"{norm}.weight"] = torch.where(usable, divided, stored)
    if (bias := tensors.get(f"{norm}.bias")) is not None:
        tensors[f"{norm}.bias"] = (bias.float() / factors).to(bias.dtype)
    return factors


def _divide_rows(tensors: dict[str, Tensor], at: str, part: Fused, rows: Tensor, scales: Tensor) -> None:
    """Divides `rows` [n] of projections that run as one, and their biases, by scales [n]."""
    divisors = torch.ones(sum(part.rows.values()), device=scales.device)
    divisors[rows.to(scales.device)] = scales
    for name, of_rows in zip(part.rows, divisors.split(list(part.rows.values())), strict=True):
        tensors[f"{at}{name}.weight"] = tensors[f"{at}{name}.weight"] / of_rows.unsqueeze(1)
        if part.has_bias:
            bias = tensors[f"{at}{name}.bias"]
            tensors[f"{at}{name}.bias"] = (bias.float() / of_rows).to(bias.dtype)
