"""Speculative decoding: what is guessed, under vLLM's name and in its form."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from octavo_runtime.config.explain import explain
from octavo_runtime.config.json_object import json_object

_USUAL_LOOKUP = 5
_EXAMPLE = '{"method": "ngram", "num_speculative_tokens": 4}'


def _at_most_max(shortest: int, others: ValidationInfo) -> int:
    longest = others.data.get("prompt_lookup_max", shortest)
    if shortest > longest:
        raise ValueError(f"must be at most prompt_lookup_max ({longest}), got {shortest}")
    return shortest


class Speculation(BaseModel):
    """Tokens that are guessed and checked in one step (Leviathan et al. 2023). `ngram`: those that followed where the
    last tokens stood before (prompt lookup, Saxena 2023); at least `prompt_lookup_min` of these must be the same, and
    more than `prompt_lookup_max` are not compared. One of the two stands for both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["ngram"]
    num_speculative_tokens: int = Field(ge=1, le=64)
    prompt_lookup_max: int = Field(_USUAL_LOOKUP, ge=1, le=64)
    prompt_lookup_min: Annotated[int, AfterValidator(_at_most_max)] = Field(_USUAL_LOOKUP, ge=1, le=64)

    @model_validator(mode="before")
    @classmethod
    def _one_for_both(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        names = "prompt_lookup_max", "prompt_lookup_min"
        said = [given[name] for name in names if given.get(name) is not None]
        others = {key: value for key, value in given.items() if key not in names}
        return others | dict(zip(names, said * 2 if len(said) == 1 else said, strict=False))


def parse_speculation(text: str) -> Speculation:
    """The speculation that a JSON object says. ValueError: one line with the field, the bound and the value."""
    given = json_object(text, _EXAMPLE)
    try:
        return Speculation.model_validate(given)
    except ValidationError as error:
        raise ValueError(explain(error)) from None
