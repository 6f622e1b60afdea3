"""Where AWQ's factors go: into the norm, the values or the MLP's upper half that bring a projection its input."""

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from octavo_runtime.models.loading.tensor_shapes import Fused
from octavo_runtime.models.loading.weights import by_parts
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.tensor_names import layer_prefix
from octavo_runtime.quantizer.awq import Readers, best_scales
from octavo_runtime.quantizer.feed_forward import (
    LayerInputs,
    attention_projections,
    beside_experts,
    feed_forwards,
)
from octavo_runtime.quantizer.inputs import Inputs
from octavo_runtime.quantizer.recipe import Recipe


def fold_scales(
    tensors: dict[str, Tensor], inputs: LayerInputs, spec: ModelSpec, index: int, recipe: Recipe
) -> LayerInputs:
    """The inputs as they are with the factors folded in. tensors: a layer's; changed in place of one another, those of
    projections to float32, so that the layer computes what it did. What has nothing before it that is linear keeps its
    inputs."""
    at, names = layer_prefix(index), spec.tensors
    qkv, output = attention_projections(spec, index)
    mlps = feed_forwards(spec, index)

    def multiply(part: Fused, scales: Tensor) -> None:
        for name in part.rows:
            tensors[f"{at}{name}.weight"] = tensors[f"{at}{name}.weight"].float() * scales

    def readers(part: Fused, of_part: Inputs, share: float = 1.0) -> Readers:
        return Readers([tensors[f"{at}{name}.weight"].float() for name in part.rows], of_part, share)

    def of_mlps() -> Iterator[Readers]:
        for mlp in mlps:
            yield readers(mlp.gate_up, inputs.of(mlp, tensors, at)[0], inputs.share(mlp))

    def search(found: Iterable[Readers], sizes: Tensor, sharing: Tensor | None = None) -> Tensor:
        return best_scales(found, sizes, recipe.group_size or len(sizes), sharing)

    def fold_into_norm(norm: str, found: Iterable[Readers], sizes: Tensor) -> Tensor:
        return _divided_norm(tensors, at + norm, spec.norm_offset, search(found, sizes))

    def multiply_mlps(factors: Tensor) -> LayerInputs:
        for mlp in mlps:
            multiply(mlp.gate_up, factors)
        for name in beside_experts(spec) if index in spec.expert_layers else ():
            stored = tensors[at + name]
            tensors[at + name] = (stored.float() * factors).to(stored.dtype)
        return inputs.behind_mlp_norm(factors)

    of_qkv, of_output = inputs.attention
    reads_both = spec.is_parallel and names.mlp_norm is None
    if names.attention_norm is not None:
        found = chain([readers(qkv, of_qkv)], of_mlps() if reads_both else ())
        factors = fold_into_norm(names.attention_norm, found, of_qkv.sizes)
        multiply(qkv, factors)
        of_qkv = of_qkv.scaled(factors)
        inputs = multiply_mlps(factors) if reads_both else inputs
    if names.mlp_norm is not None:
        inputs = multiply_mlps(fold_into_norm(names.mlp_norm, of_mlps(), inputs.mlp_sizes))

    device = of_output.sizes.device
    heads, kv_heads, width = spec.num_heads, spec.num_kv_heads, spec.head_dim
    values = torch.arange(kv_heads * width, device=device).view(kv_heads, 1, width)
    sharing = values.expand(-1, heads // kv_heads, -1).flatten()
    scales = search([readers(output, of_output)], of_output.sizes, sharing)
    rows = by_parts(spec) if spec.qkv_by_groups else torch.arange(spec.qkv_size)
    of_values = scales.view(kv_heads, -1, width)[:, 0].flatten()
    _divide_rows(tensors, at, qkv, rows[-kv_heads * width :], of_values)
    multiply(output, scales)
    inputs = inputs._replace(attention=(of_qkv, of_output.scaled(scales)))

    if not spec.is_gated:  # what multiplies the gate is linear; an activation is not
        return inputs
    for mlp in mlps:
        _, of_down = inputs.of(mlp, tensors, at)
        scales = search([readers(mlp.down, of_down)], of_down.sizes)
        inner = mlp.down.columns
        _divide_rows(tensors, at, mlp.gate_up, torch.arange(inner, 2 * inner), scales)
        multiply(mlp.down, scales)
        if mlp.expert is None and inputs.always is not None:
            inputs = inputs._replace(always=(inputs.always[0], of_down.scaled(scales)))
    return inputs


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
