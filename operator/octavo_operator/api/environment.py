"""spec.env: variables of the engine's environment."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.rules import STRICT, cel, schema, strict

_NAME_PATTERN = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
_NAME_FORM = "letters, digits, -, _ and ., without a digit at the start"


def _variable(name: str) -> str:
    if not re.fullmatch(_NAME_PATTERN, name):
        raise ValueError(f"must be {_NAME_FORM}, got {name!r}")
    return name


class KeyReference(BaseModel):
    model_config = STRICT

    name: str = Field(min_length=1, max_length=253, description="Name of the object. Required.")
    key: str = Field(min_length=1, max_length=253, description="Key in it. Required.")
    optional: bool = Field(
        False, description="Whether the pod starts without the variable where there is no such key. Default false."
    )


class ValueSource(BaseModel):
    model_config = strict(
        cel(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "'must be one of secretKeyRef and configMapKeyRef, got %s'"
            ".format([has(self.secretKeyRef) ? 'both' : 'neither'])",
        )
    )

    secret_key_ref: KeyReference | None = Field(
        None, description="Key of a Secret in the service's namespace. Default: none."
    )
    config_map_key_ref: KeyReference | None = Field(
        None, description="Key of a ConfigMap in the service's namespace. Default: none."
    )

    @validates(mode="after")
    def _one_source(self) -> Self:
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            said = "neither" if self.secret_key_ref is None else "both"
            raise ValueError(f"must be one of secretKeyRef and configMapKeyRef, got {said}")
        return self


class Variable(BaseModel):
    model_config = strict(
        cel(
            "has(self.value) != has(self.valueFrom)",
            "'must have one of value and valueFrom, got %s for %s'"
            ".format([has(self.value) ? 'both' : 'neither', self.name])",
        )
    )

    name: Annotated[str, AfterValidator(_variable)] = Field(
        min_length=1,
        max_length=256,
        description="Name of the variable. Required.",
        json_schema_extra=schema(cel(f"self.matches(r'{_NAME_PATTERN}')", f"'must be {_NAME_FORM}, got ' + self")),
    )
    value: str | None = Field(
        None, max_length=32768, description="Its value; $(NAME) stands for a variable before it. Default: none."
    )
    value_from: ValueSource | None = Field(None, description="Where its value comes from instead. Default: none.")

    @validates(mode="after")
    def _one_value(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            said = "neither" if self.value is None else "both"
            raise ValueError(f"must have one of value and valueFrom, got {said} for {self.name}")
        return self


def _told_apart(variables: list[Variable]) -> list[Variable]:
    names = [variable.name for variable in variables]
    if twice := [name for position, name in enumerate(names) if name in names[:position]]:
        raise ValueError(f"names must be unique, got {twice[0]!r} twice")
    return variables


Environment = Annotated[list[Variable], AfterValidator(_told_apart)]
