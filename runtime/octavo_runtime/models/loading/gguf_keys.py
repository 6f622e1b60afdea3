"""The keys of a GGUF file's architecture (`llama.*`): those that are read for all, and those that change nothing."""

import textwrap
from collections.abc import Mapping
from typing import Any, TypeVar

import gguf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octavo_runtime.config.explain import explain
from octavo_runtime.models.config_fields import Positive, Size
from octavo_runtime.models.family import GGUFForm
from octavo_runtime.models.spec import UnsupportedModel

# Keys that change nothing in the arithmetic, with the values for which that is so (none named: for all).
_HARMLESS: dict[str, tuple[object, ...]] = {
    "attention.causal": (True,),  # there is no other attention
    "expert_count": (0,),  # some converters write it for models without experts
    "expert_used_count": (0,),
    "rope.scaling.finetuned": (),  # says how the model was trained
    "rope.scaling.yarn_ext_factor": (1.0,),
    "rope.scaling.yarn_attn_factor": (1.0,),
    "tensor_data_layout": (),  # whence the order of rows; llama.cpp has one order for all llama files
    "use_parallel_residual": (False,),
    "vocab_size": (),  # the embedding says it too, in every file
}

_Model = TypeVar("_Model", bound=BaseModel)


class Metadata(BaseModel):
    """The keys that are read for all architectures."""

    model_config = ConfigDict(strict=True, extra="forbid")

    context_length: int = Field(alias="context_length", ge=1, lt=2**31)
    embedding_length: Size = Field(alias="embedding_length")
    feed_forward_length: Size = Field(alias="feed_forward_length")
    block_count: int = Field(alias="block_count", ge=1, le=4096)
    head_count: Size = Field(alias="attention.head_count")
    head_count_kv: Size | None = Field(None, alias="attention.head_count_kv")
    key_length: Size | None = Field(None, alias="attention.key_length")
    value_length: Size | None = Field(None, alias="attention.value_length")
    sliding_window: int = Field(0, alias="attention.sliding_window", ge=0)
    sliding_window_pattern: list[bool] | Size | None = Field(None, alias="attention.sliding_window_pattern")
    rms_epsilon: Positive | None = Field(None, alias="attention.layer_norm_rms_epsilon")
    epsilon: Positive | None = Field(None, alias="attention.layer_norm_epsilon")
    rope_dimensions: Size | None = Field(None, alias="rope.dimension_count")
    rope_base: Positive = Field(10000.0, alias="rope.freq_base")
    rope_scaling_type: str = Field("linear", alias="rope.scaling.type")  # llama.cpp's default
    rope_scaling_factor: float = Field(0.0, alias="rope.scaling.factor", ge=0, allow_inf_nan=False)
    rope_scale_linear: float = Field(0.0, alias="rope.scale_linear", ge=0, allow_inf_nan=False)  # its old name
    original_context: Size | None = Field(None, alias="rope.scaling.original_context_length")
    rope_amplitude: Positive = Field(1.0, alias="rope.scaling.attn_factor")
    beta_fast: Positive = Field(32.0, alias="rope.scaling.yarn_beta_fast")
    beta_slow: Positive = Field(1.0, alias="rope.scaling.yarn_beta_slow")


def own_keys(reader: gguf.GGUFReader, own: str) -> dict[str, Any]:
    """The metadata below the architecture's name."""
    return {name.removeprefix(own): field.contents() for name, field in reader.fields.items() if name.startswith(own)}


def read_keys(values: Mapping[str, Any], form: GGUFForm, own: str) -> Metadata:
    """The keys that are no family's own."""
    rest = dict(values)
    allowed = {**_HARMLESS, **{name: (value,) for name, value in form.must.items()}}
    for name, neutral in allowed.items():
        value = rest.pop(name, None)
        if neutral and value is not None and value not in neutral:
            raise UnsupportedModel(f"{own}{name} must be {' or '.join(map(str, neutral))}, got {value}")
    return validated(Metadata, rest, own)


def validated(model: type[_Model], values: Mapping[str, Any], own: str) -> _Model:
    """The values as a model. Raises UnsupportedModel, which names the key, below `own`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UnsupportedModel(textwrap.shorten(explain(error, own), 300, placeholder=" ...")) from None
