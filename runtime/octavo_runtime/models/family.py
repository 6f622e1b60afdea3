"""A decoder family: what a config.json of one architecture means."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.spec import ModelSpec

Kind = Literal["dense", "experts", "latent", "encoder"]


@dataclass(frozen=True)
class GGUFForm:
    """How llama.cpp's converter writes a family: general.architecture, and whether the rows of queries and keys are
    stored for a rotary embedding that turns neighbours instead of halves, while the checkpoint turns halves.
    is_windowed: which layers see the window that a file names; None where it does not say: then requests end within
    it. norm_offset: what is added to the weights of norms in the file. names: of a layer's tensors, by their Hugging
    Face names, where they are not Llama's. keys: further keys of the metadata, below the architecture's name, with the
    fields of a config.json that they fill. implied: such fields that the architecture stands for. must: further keys,
    with the values that the family computes with, which a file may say or not. turns_part: rope.dimension_count may be
    less than a head. truncates: see YarnRope. is_latent: with latent attention. is_marked: whether the keys and
    names of tensors are those of this family, where several share an architecture; None: of those that are left.
    complete: adds to what the metadata say what the architecture means."""

    architecture: str
    interleaved: bool = False
    is_windowed: Callable[[int], bool] | None = None
    norm_offset: float = 0.0
    names: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    implied: Mapping[str, Any] = field(default_factory=dict)
    must: Mapping[str, object] = field(default_factory=dict)
    turns_part: bool = False
    truncates: bool = True
    is_latent: bool = False
    is_marked: Callable[[Mapping[str, Any], Container[str]], bool] | None = None
    complete: Callable[[ModelSpec], ModelSpec] = lambda spec: spec


@dataclass(frozen=True)
class Family:
    """architecture, model_type: as config.json names it. defaults: what transformers takes for fields that are left
    out, where it is not the same for all families. spec: from the fields and the tokens that end an answer. reads: what
    changes its arithmetic by fields that other families refuse. gguf: None where no GGUF file of it is read.
    with_pictures: architecture and model_type of checkpoints that hold it as the text of a model that sees pictures.
    renamed: fields that config.json has by other names than ConfigFields. models: what is published in this form, by
    the names that people know. kind: a decoder without experts, with them, with latent attention, or an encoder.
    beside: what is its own beside Llama, or for an encoder beside BERT."""

    architecture: str
    model_type: str
    defaults: Mapping[str, Any]
    spec: Callable[[ConfigFields, tuple[int, ...]], ModelSpec]
    reads: frozenset[str] = frozenset()
    gguf: GGUFForm | None = None
    with_pictures: tuple[str, str] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    models: str = field(kw_only=True)
    kind: Kind = field(kw_only=True)
    beside: str = field(default="", kw_only=True)
