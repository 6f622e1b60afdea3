"""The rotary embedding that a config.json describes: its base, its scaling, and the share of a head that it turns."""

import math

from pydantic import BaseModel, ConfigDict

from octavo_runtime.layers.rope_scaling import LinearRope, Llama3Rope, LongRope, RopeScaling, YarnRope
from octavo_runtime.models.config_fields import ConfigFields, Positive, Size, shown, validated
from octavo_runtime.models.spec import UnsupportedModel

SUPPORTED_ROPE = ("default", "linear", "llama3", "yarn", "longrope")


class _Rope(BaseModel):
    """rope_parameters, or rope_scaling in older files. What else they hold would change the arithmetic."""

    model_config = ConfigDict(strict=True, extra="forbid")

    rope_type: str | None = None
    type: str | None = None
    rope_theta: Positive | None = None
    partial_rotary_factor: float | None = None
    original_max_position_embeddings: Size | None = None
    factor: Positive | None = None
    low_freq_factor: Positive | None = None
    high_freq_factor: Positive | None = None
    beta_fast: Positive | None = None
    beta_slow: Positive | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: Positive | None = None
    truncate: bool = True
    short_factor: list[Positive] | None = None
    long_factor: list[Positive] | None = None


def rope(fields: ConfigFields) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary embedding, from whichever fields hold them."""
    where = "rope_parameters" if fields.rope_parameters else "rope_scaling"
    given = fields.rope_parameters or fields.rope_scaling or {}
    named = given.get("rope_type") or given.get("type") or "default"
    named = "longrope" if named == "su" else named  # its older name
    if named not in SUPPORTED_ROPE:
        raise UnsupportedModel(f"rope type must be one of {', '.join(SUPPORTED_ROPE)}, got {shown(named)}")
    found = validated(_Rope, given, where)
    if found.partial_rotary_factor not in (None, 1):
        raise UnsupportedModel(f"{where}.partial_rotary_factor must be 1, got {found.partial_rotary_factor}")
    theta = found.rope_theta or fields.rope_theta or 10000.0
    if named == "default":
        return theta, None
    if named == "longrope":
        return theta, _longrope(found, fields, where)
    if found.factor is None:
        raise UnsupportedModel(f"{where}.factor must be given for rope type {named}")
    if named == "linear":
        return theta, LinearRope(found.factor)
    original = _original(found, fields)
    if named == "yarn":
        return theta, _yarn(found, found.factor, original)
    low, high = found.low_freq_factor, found.high_freq_factor
    if low is None or high is None or low >= high:
        raise UnsupportedModel(f"{where}.low_freq_factor must be below high_freq_factor, got {low} and {high}")
    return theta, Llama3Rope(found.factor, low, high, original)


def with_rope_of_kind(fields: ConfigFields, kind: str) -> ConfigFields:
    """The fields with rope_parameters of one kind of layers, where they have an object for each."""
    found = (fields.rope_parameters or {}).get(kind)
    if found is not None and not isinstance(found, dict):
        raise UnsupportedModel(f"rope_parameters.{kind} must be an object, got {shown(found)}")
    return fields.model_copy(update={"rope_parameters": found})


def plain_rope_of_kind(fields: ConfigFields, kind: str, theta: float) -> float:
    """The base of the rotary embedding of a kind of layers whose embedding is not scaled. theta: where rope_parameters
    do not say."""
    found = fields.model_copy(update={"rope_scaling": None, "rope_theta": theta})
    theta, scaling = rope(with_rope_of_kind(found, kind))
    if scaling is not None:
        raise UnsupportedModel(f"rope_parameters.{kind} must be of rope type default")
    return theta


def _original(found: _Rope, fields: ConfigFields) -> int:
    """The longest context of the first training."""
    given = fields.original_max_position_embeddings or found.original_max_position_embeddings
    return given or fields.max_position_embeddings


def _longrope(found: _Rope, fields: ConfigFields, where: str) -> LongRope:
    """With transformers' defaults (modeling_rope_utils)."""
    if not found.short_factor or not found.long_factor:
        raise UnsupportedModel(f"{where}.short_factor and long_factor must be given for rope type longrope")
    original = _original(found, fields)
    factor = found.factor or fields.max_position_embeddings / original
    implied = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    scale = found.attention_factor or implied
    return LongRope(tuple(found.short_factor), scale, original, tuple(found.long_factor), scale)


def partial_rotary(fields: ConfigFields, default: float = 1.0) -> tuple[ConfigFields, float]:
    """The share of a head that is turned, for families that turn a part of it, and the fields without it."""
    where = "rope_parameters" if fields.rope_parameters else "rope_scaling"
    given = dict(getattr(fields, where) or {})
    share = given.pop("partial_rotary_factor", None) or fields.partial_rotary_factor or default
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise UnsupportedModel(f"{where}.partial_rotary_factor must be above 0 and at most 1, got {shown(share)}")
    return fields.model_copy(update={where: given or None}), share


def _yarn(found: _Rope, factor: float, original: int) -> YarnRope:
    """With transformers' defaults (modeling_rope_utils)."""

    def amplitude(mscale: float) -> float:
        return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0

    implied = amplitude(1.0)
    if found.mscale and found.mscale_all_dim:
        implied = amplitude(found.mscale) / amplitude(found.mscale_all_dim)
    return YarnRope(
        factor=factor,
        original_max_position=original,
        beta_fast=found.beta_fast or 32.0,
        beta_slow=found.beta_slow or 1.0,
        attention_factor=found.attention_factor or implied,
        truncate=found.truncate,
    )
