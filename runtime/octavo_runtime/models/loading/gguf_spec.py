"""The model that a GGUF file describes in its metadata (format: github.com/ggml-org/ggml, docs/gguf.md). Free of torch.

Every key of the architecture's own (`llama.*`) is either read here or in the list of those that change nothing; others
are refused."""

import textwrap
from collections.abc import Sequence
from typing import Annotated, Any

import gguf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octavo_runtime.config.explain import explain
from octavo_runtime.layers.rope_scaling import DividedRope, LinearRope, RopeScaling
from octavo_runtime.models.families import FAMILIES
from octavo_runtime.models.loading.end_tokens import gguf_end_tokens
from octavo_runtime.models.loading.gguf_parts import metadata, spellings
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel, check_shape

FORMS = {family.gguf.architecture: family.gguf for family in FAMILIES.values() if family.gguf is not None}
ROPE_DIVISORS = "rope_freqs.weight"

# Keys that change nothing in the arithmetic, with the values for which that is so (none named: for all).
_HARMLESS: dict[str, tuple[object, ...]] = {
    "attention.causal": (True,),  # there is no other attention
    "expert_count": (0,),  # some converters write it for models without experts
    "expert_used_count": (0,),
    "rope.scaling.attn_factor": (1.0,),
    "rope.scaling.finetuned": (),  # says how the model was trained
    "rope.scaling.original_context_length": (),  # goes with yarn, which is refused
    "tensor_data_layout": (),  # whence the order of rows; llama.cpp has one order for all llama files
    "use_parallel_residual": (False,),
    "vocab_size": (),  # the embedding says it too, in every file
}

_Size = Annotated[int, Field(ge=1, le=2**24)]
_Positive = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]


class _Metadata(BaseModel):
    """The keys that are read."""

    model_config = ConfigDict(strict=True, extra="forbid")

    context_length: int = Field(alias="context_length", ge=1, lt=2**31)
    embedding_length: _Size = Field(alias="embedding_length")
    feed_forward_length: _Size = Field(alias="feed_forward_length")
    block_count: int = Field(alias="block_count", ge=1, le=4096)
    head_count: _Size = Field(alias="attention.head_count")
    head_count_kv: _Size | None = Field(None, alias="attention.head_count_kv")
    key_length: _Size | None = Field(None, alias="attention.key_length")
    value_length: _Size | None = Field(None, alias="attention.value_length")
    sliding_window: int = Field(0, alias="attention.sliding_window", ge=0)
    epsilon: _Positive = Field(alias="attention.layer_norm_rms_epsilon")
    rope_dimensions: _Size | None = Field(None, alias="rope.dimension_count")
    rope_base: _Positive = Field(10000.0, alias="rope.freq_base")
    windowed_rope_base: _Positive | None = Field(None, alias="rope.freq_base_swa")
    rope_scaling_type: str = Field("linear", alias="rope.scaling.type")  # llama.cpp's default
    rope_scaling_factor: float = Field(0.0, alias="rope.scaling.factor", ge=0, allow_inf_nan=False)
    rope_scale_linear: float = Field(0.0, alias="rope.scale_linear", ge=0, allow_inf_nan=False)  # its old name


def gguf_spec(parts: Sequence[gguf.GGUFReader]) -> ModelSpec:
    """ModelSpec of the opened parts of a GGUF file; UnsupportedModel where the decoder cannot compute it."""
    first = parts[0]
    architecture, kind = metadata(first, "general.architecture"), metadata(first, "general.type") or "model"
    if architecture not in FORMS:
        raise UnsupportedModel(f"general.architecture must be one of {', '.join(FORMS)}, got {architecture}")
    if kind != "model":
        raise UnsupportedModel(f"general.type must be model, got {kind}")
    tensors = {tensor.name: tensor for part in parts for tensor in part.tensors}
    if "token_embd.weight" not in tensors:
        raise UnsupportedModel("the GGUF file has no tensor token_embd.weight")
    fields = _read(first, architecture)
    head_dim = fields.key_length or fields.embedding_length // fields.head_count
    for name, value in (
        ("attention.value_length", fields.value_length),
        ("rope.dimension_count", fields.rope_dimensions),
    ):
        if value not in (None, head_dim):
            raise UnsupportedModel(f"{architecture}.{name} must be {head_dim}, the size of a head, got {value}")
    form, window = FORMS[architecture], fields.sliding_window or None
    longest = fields.context_length
    if window is not None and form.is_windowed is None:
        longest, window = min(longest, window), None
    slides = frozenset(filter(form.is_windowed, range(fields.block_count)) if window is not None else ())
    return check_shape(
        form.complete(
            ModelSpec(
                # The metadata need not say how large the vocabulary is. GGUF lists columns first.
                vocab_size=int(tensors["token_embd.weight"].shape[1]),
                hidden_size=fields.embedding_length,
                intermediate_size=fields.feed_forward_length,
                num_layers=fields.block_count,
                num_heads=fields.head_count,
                num_kv_heads=fields.head_count_kv or fields.head_count,
                head_dim=head_dim,
                max_position=longest,
                rms_norm_eps=fields.epsilon,
                rope_theta=fields.rope_base,
                rope_scaling=_rope_scaling(fields, tensors.get(ROPE_DIVISORS), architecture),
                tie_embeddings="output.weight" not in tensors,
                qkv_bias=any(name.endswith(("attn_q.bias", "attn_k.bias", "attn_v.bias")) for name in tensors),
                output_bias=any(name.endswith("attn_output.bias") for name in tensors),
                mlp_bias=any(".ffn_" in name and name.endswith(".bias") for name in tensors),
                qk_norm=form.qk_norm,
                window=window,
                windowed_layers=slides,
                windowed_rope_theta=fields.windowed_rope_base,
                eos_token_ids=end_tokens(first),
            )
        )
    )


def end_tokens(reader: gguf.GGUFReader) -> tuple[int, ...]:
    """The tokens that end an answer."""
    ids = {name: field.contents() for name, field in reader.fields.items() if name.endswith("_token_id")}
    return gguf_end_tokens(ids, spellings(reader))


def _read(reader: gguf.GGUFReader, architecture: str) -> _Metadata:
    own = f"{architecture}."
    values: dict[str, Any] = {
        name.removeprefix(own): field.contents() for name, field in reader.fields.items() if name.startswith(own)
    }
    for name, neutral in _HARMLESS.items():
        value = values.pop(name, None)
        if neutral and value is not None and value not in neutral:
            raise UnsupportedModel(f"{own}{name} must be {' or '.join(map(str, neutral))}, got {value}")
    try:
        return _Metadata.model_validate(values)
    except ValidationError as error:
        raise UnsupportedModel(textwrap.shorten(explain(error, own), 300, placeholder=" ...")) from None


def _rope_scaling(fields: _Metadata, divisors: gguf.ReaderTensor | None, architecture: str) -> RopeScaling | None:
    """As in llama.cpp: a factor of 0 or 1 is none, and the old key counts where the new one is missing."""
    if fields.rope_scaling_type not in ("none", "linear"):
        raise UnsupportedModel(
            f"{architecture}.rope.scaling.type must be none or linear, got {fields.rope_scaling_type}"
        )
    factor = 1.0
    if fields.rope_scaling_type == "linear":
        factor = fields.rope_scaling_factor or fields.rope_scale_linear or 1.0
    if divisors is None:
        return None if factor == 1.0 else LinearRope(factor)
    if factor != 1.0:
        raise UnsupportedModel(f"{architecture}.rope.scaling.factor must be 1 beside {ROPE_DIVISORS}, got {factor}")
    if divisors.tensor_type != gguf.GGMLQuantizationType.F32:
        raise UnsupportedModel(f"{ROPE_DIVISORS}: type must be F32, got {divisors.tensor_type.name}")
    values = tuple(divisors.data.ravel().tolist())
    if not all(0 < value < float("inf") for value in values):
        raise UnsupportedModel(f"{ROPE_DIVISORS} must hold positive numbers, got {min(values)}")
    return DividedRope(values)
