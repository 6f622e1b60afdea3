"""The rotary embedding that a GGUF file describes, in its metadata and in tensors of divisors."""

import math
from collections.abc import Mapping
from dataclasses import replace

import gguf

from octavo_runtime.layers.rope_scaling import DividedRope, LinearRope, LongRope, RopeScaling, YarnRope
from octavo_runtime.models.family import GGUFForm
from octavo_runtime.models.loading.gguf_keys import Metadata
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel

ROPE_DIVISORS = "rope_freqs.weight"
LONG_ROPE = "rope_factors_short.weight", "rope_factors_long.weight"

Tensors = Mapping[str, gguf.ReaderTensor]


def with_rope(spec: ModelSpec, fields: Metadata, form: GGUFForm, tensors: Tensors, own: str) -> ModelSpec:
    """The spec with its rotary embedding. own: what the architecture's keys begin with."""
    turned = fields.rope_dimensions or spec.head_dim
    if not form.turns_part and turned != spec.head_dim:
        raise UnsupportedModel(
            f"{own}rope.dimension_count must be {spec.head_dim}, the size of a head, got {fields.rope_dimensions}"
        )
    scaling = _rope_scaling(fields, tensors, form, own)
    return replace(spec, rotary_dim=turned if form.turns_part else None, rope_scaling=scaling)


def _rope_scaling(fields: Metadata, tensors: Tensors, form: GGUFForm, own: str) -> RopeScaling | None:
    """As in llama.cpp: a factor of 0 or 1 is none, and the old key counts where the new one is missing."""
    kind = fields.rope_scaling_type
    if kind not in ("none", "linear", "yarn", "longrope"):
        raise UnsupportedModel(f"{own}rope.scaling.type must be none, linear, yarn or longrope, got {kind}")
    factor = 1.0
    if kind != "none":
        factor = fields.rope_scaling_factor or (fields.rope_scale_linear if kind == "linear" else 0.0) or 1.0
    short, long = LONG_ROPE
    if short in tensors or long in tensors:
        for name, other in ((short, long), (long, short)):
            if name not in tensors:
                raise UnsupportedModel(f"{name} must be given beside {other}, got none")
        original, scale = fields.original_context or fields.context_length, fields.rope_amplitude
        return LongRope(_divisors(tensors, short), scale, original, _divisors(tensors, long), scale)
    if fields.rope_amplitude != 1.0:
        raise UnsupportedModel(f"{own}rope.scaling.attn_factor must be 1.0, got {fields.rope_amplitude}")
    if ROPE_DIVISORS in tensors:
        if factor != 1.0:
            raise UnsupportedModel(f"{own}rope.scaling.factor must be 1 beside {ROPE_DIVISORS}, got {factor}")
        return DividedRope(_divisors(tensors, ROPE_DIVISORS))
    if factor == 1.0:
        return None
    if kind == "yarn":
        return YarnRope(
            factor=factor,
            original_max_position=fields.original_context or fields.context_length,
            beta_fast=fields.beta_fast,
            beta_slow=fields.beta_slow,
            attention_factor=0.1 * math.log(factor) + 1 if factor > 1 else 1.0,
            truncate=form.truncates,
        )
    return LinearRope(factor)


def _divisors(tensors: Tensors, name: str) -> tuple[float, ...]:
    tensor = tensors[name]
    if tensor.tensor_type != gguf.GGMLQuantizationType.F32:
        raise UnsupportedModel(f"{name}: type must be F32, got {tensor.tensor_type.name}")
    values = tuple(tensor.data.ravel().tolist())
    if not all(0 < value < float("inf") for value in values):
        raise UnsupportedModel(f"{name} must hold positive numbers, got {min(values)}")
    return values
