"""A decoder family: what a config.json of one architecture means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo_runtime.models.config_fields import ConfigFields
from octavo_runtime.models.spec import ModelSpec


@dataclass(frozen=True)
class GGUFForm:
    """How llama.cpp's converter writes a family: general.architecture, whether the rows of queries and keys are stored
    for a rotary embedding that turns neighbours instead of halves, and whether queries and keys have norms.
    is_windowed: which layers see the window that a file names; None where it does not say: then requests end within
    it. norm_offset: what is added to the weights of norms in the file. names: of a layer's tensors, by their Hugging
    Face names, where they are not Llama's. complete: adds to what the metadata say what the architecture means."""

    architecture: str
    interleaved: bool = False
    qk_norm: bool = False
    is_windowed: Callable[[int], bool] | None = None
    norm_offset: float = 0.0
    names: Mapping[str, str] = field(default_factory=dict)
    complete: Callable[[ModelSpec], ModelSpec] = lambda spec: spec


@dataclass(frozen=True)
class Family:
    """architecture, model_type: as config.json names it. defaults: what transformers takes for fields that are left
    out, where it is not the same for all families. spec: from the fields and the tokens that end an answer. reads: what
    changes its arithmetic by fields that other families refuse. gguf: None where no GGUF file of it is read.
    with_pictures: architecture and model_type of checkpoints that hold it as the text of a model that sees pictures."""

    architecture: str
    model_type: str
    defaults: Mapping[str, Any]
    spec: Callable[[ConfigFields, tuple[int, ...]], ModelSpec]
    reads: frozenset[str] = frozenset()
    gguf: GGUFForm | None = None
    with_pictures: tuple[str, str] | None = None
