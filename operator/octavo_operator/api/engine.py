"""spec.engine: every knob of the engine, as its own configuration has them, and arguments of the server."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, create_model

from octavo_operator.api.extra_arguments import ExtraArguments
from octavo_operator.api.quantities import Memory, as_text, in_runtime_notation
from octavo_operator.api.rules import cel, schema, strict
from octavo_runtime.config.engine import EngineConfig, SwapSpace
from octavo_runtime.config.presets import PRESET_FIELDS
from octavo_runtime.config.units import Quantity

if TYPE_CHECKING:

    class EngineSpec(EngineConfig):
        extra_args: list[str]

else:
    # What the field's pattern lets pass, and the engine does not.
    _SWAP_RULE = schema(
        cel(
            "!isQuantity(string(self)) || !(quantity(string(self)).isGreaterThan(quantity('0'))"
            " && quantity(string(self)).isLessThan(quantity('1Mi')))",
            "'must be 0 or at least 1Mi, with its unit, such as 4Gi, got %s'.format([self])",
        )
    )

    def _engine_field(name: str) -> tuple[Any, Any]:
        """A field of EngineConfig as one of the LLMService."""
        field = EngineConfig.model_fields[name]
        if field.annotation == Quantity | None:
            return Memory | None, field
        if field.annotation == SwapSpace | None:
            return Annotated[SwapSpace, BeforeValidator(as_text), Field(json_schema_extra=_SWAP_RULE)] | None, field
        if name in PRESET_FIELDS:
            # No default in the schema: it could not be told from a value that the user wrote beside a preset.
            return Annotated[field.annotation | None, *field.metadata], Field(None, description=field.description)
        return field.annotation, field

    # These are said elsewhere in the spec; every other knob of the engine is one here.
    _ELSEWHERE = ("model", "device", "tensor_parallel_size", "nnodes", "node_rank", "master_addr", "master_port")

    EngineSpec = create_model(
        "EngineSpec",
        __config__=strict(
            cel(
                "!has(self.blockSize) || self.blockSize in [8, 16, 32, 64, 128, 256]",
                "'must be a power of two from 8 to 256, got %d'.format([self.blockSize])",
                ".blockSize",
            ),
            cel(
                "!has(self.speculativeConfig) || !has(self.maxNumSeqs) || self.maxNumSeqs > 1",
                "'needs maxNumSeqs of at least 2, whose places in a step guesses take, got 1'",
                ".speculativeConfig",
            ),
        ),
        **{name: _engine_field(name) for name in EngineConfig.model_fields if name not in _ELSEWHERE},
        extra_args=(
            ExtraArguments,
            Field(
                default_factory=list,
                max_length=32,
                description="Arguments of octavo serve that have no field, each one word, such as "
                "--metrics-aliases=vllm or --no-ui; $(NAME) stands for a variable of env. They come after those that "
                "the operator sets, none of which may be given, and before those of podTemplate, which win. Default: "
                "none.",
            ),
        ),
    )


def said(engine: EngineSpec) -> dict[str, Any]:
    """What a spec says of the engine, by the names of EngineConfig in camelCase and in its notation."""
    found = engine.model_dump(by_alias=True, exclude_defaults=True, exclude={"extra_args"})
    if "kvCacheMemory" in found:
        found["kvCacheMemory"] = in_runtime_notation(found["kvCacheMemory"])
    return found
