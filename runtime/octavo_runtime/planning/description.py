"""What planning needs to know of a model, as one line of JSON: `octavo describe` writes it, and the operator, which has
no files of models, plans by it. Free of torch, and of what reads models."""

from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, ValidationError

from octavo_runtime.config.explain import explain
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.models.spec import UnsupportedModel as UnsupportedModel  # for who reads descriptions


@dataclass(frozen=True)
class FoundModel:
    """packed_bytes: by how many bytes a CPU's weights are more than in 16 bits, for those that it keeps packed beside
    them; or fewer, for experts that it keeps packed alone."""

    spec: ModelSpec
    packed_bytes: int


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: ModelSpec | None = None
    packed_bytes: int = 0
    unsupported: str | None = None


def described(found: FoundModel) -> str:
    """The line of a model: what its memory depends on. End tokens, rotary embeddings and ALiBi's slopes, of which it
    does not, are left out: they can be long."""
    shape = replace(
        found.spec,
        eos_token_ids=(),
        rms_norm_eps=0.0,
        rope_theta=0.0,
        rope_scaling=None,
        windowed_rope_theta=None,
        unrotated_layers=frozenset(),
        alibi_slopes=None,
    )
    return _Description(spec=shape, packed_bytes=found.packed_bytes).model_dump_json(exclude_defaults=True)


def described_as_unsupported(why: str) -> str:
    """The line of a model that the engine refuses; `why` in one line."""
    return _Description(unsupported=why).model_dump_json(exclude_defaults=True)


def read_description(line: str) -> FoundModel:
    """The model in such a line. Raises UnsupportedModel with the engine's words where it says so, and ValueError, in
    one line, where it is none."""
    try:
        description = _Description.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(f"a description of a model must be what octavo describe writes: {explain(error)}") from None
    if description.unsupported is not None:
        raise UnsupportedModel(description.unsupported)
    if description.spec is None:
        raise ValueError(f"a description of a model must hold spec or unsupported, got {line[:100]!r}")
    return FoundModel(description.spec, description.packed_bytes)
