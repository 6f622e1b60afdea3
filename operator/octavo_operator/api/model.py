"""spec.model: what is served, and from where."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.rules import cel, schema, strict
from octavo_operator.api.secrets import SecretKey

URI_PATTERN = (
    r"^(builtin://[A-Za-z0-9._-]+|hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._/-]+)?"
    r"|file:///.+|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.+)?)$"
)
URI_FORMS = "builtin://NAME, hf://OWNER/NAME[@REVISION], file:///PATH or pvc://CLAIM/PATH"
WORD_PATTERN = r"^\S+$"


def _model_uri(text: str) -> str:
    if not re.fullmatch(URI_PATTERN, text):
        raise ValueError(f"must be {URI_FORMS}, got {text!r}")
    if ".." in text.split("/"):
        raise ValueError(f"must not contain .., got {text!r}")
    return text


def _unique(names: list[str]) -> list[str]:
    if twice := [name for position, name in enumerate(names) if name in names[:position]]:
        raise ValueError(f"must be unique, got {twice[0]!r} twice")
    return names


ServedName = Annotated[str, Field(min_length=1, max_length=128, pattern=WORD_PATTERN)]


class ModelSpec(BaseModel):
    model_config = strict(
        cel(
            "!has(self.tokenSecret) || self.uri.startsWith('hf://')",
            "'tokenSecret is used by hf:// models only, and uri is ' + self.uri",
            ".tokenSecret",
        )
    )

    uri: Annotated[str, AfterValidator(_model_uri)] = Field(
        max_length=512,
        description=f"Where the model comes from: {URI_FORMS} (a folder or a .gguf file). Required.",
        json_schema_extra=schema(
            cel(f"self.matches(r'{URI_PATTERN}')", f"'must be {URI_FORMS}, got ' + self"),
            cel("!self.split('/').exists(part, part == '..')", "'must not contain .., got ' + self"),
        ),
    )
    served_names: Annotated[list[ServedName], AfterValidator(_unique)] = Field(
        default_factory=list,
        max_length=8,
        description="Names that clients call the model by. Default: the model's own name, such as smollm2.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    token_secret: SecretKey | None = Field(
        None,
        description="Access token for a gated or private hf:// model. Another Secret or key replaces the pods; what a "
        "Secret holds is read when a pod starts. Default: none.",
    )

    @validates(mode="after")
    def _token_needs_hub(self) -> Self:
        if self.token_secret is not None and not self.uri.startswith("hf://"):
            raise ValueError(f"tokenSecret is used by hf:// models only, got uri {self.uri!r}")
        return self
