"""spec.model: what is served, and from where."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field
from pydantic import model_validator as validates
from pydantic.alias_generators import to_camel

from octavo_operator.api.model_cache import ModelCache
from octavo_operator.api.rules import cel, schema, strict
from octavo_operator.api.secrets import SecretKey, SecretName

URI_PATTERN = (
    r"^(builtin://[A-Za-z0-9._-]+|hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._/-]+)?"
    r"|[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9_][A-Za-z0-9._-]*"
    r"|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]+)?"
    r"|oci://[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?"
    r"|file:///.+|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.+)?)$"
)
URI_FORMS = (
    "builtin://NAME, OWNER/NAME of the hub or hf://OWNER/NAME@REVISION, s3://BUCKET/PREFIX, oci://REGISTRY/NAME:TAG, "
    "file:///PATH or pvc://CLAIM/PATH"
)
# Schemes of what is downloaded, and so may be kept in a cache and be had from another endpoint.
DOWNLOADED = ("hf://", "s3://", "oci://")
ENDPOINT_PATTERN = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"
WORD_PATTERN = r"^\S+$"


def _model_uri(text: str) -> str:
    if not re.fullmatch(URI_PATTERN, text):
        raise ValueError(f"must be {URI_FORMS}, got {text!r}")
    if ".." in text.split("/"):
        raise ValueError(f"must not contain .., got {text!r}")
    return text if "://" in text else f"hf://{text}"  # no folder can be meant here


def _unique(names: list[str]) -> list[str]:
    if twice := [name for position, name in enumerate(names) if name in names[:position]]:
        raise ValueError(f"must be unique, got {twice[0]!r} twice")
    return names


ServedName = Annotated[str, Field(min_length=1, max_length=128, pattern=WORD_PATTERN)]


# Fields that models of some schemes alone use.
_USED_BY = {
    "token_secret": ("hf://",),
    "credentials_secret": ("s3://", "oci://"),
    "region": ("s3://",),
    "endpoint": DOWNLOADED,
    "cache": DOWNLOADED,
}


def _rule_of_use(name: str, schemes: tuple[str, ...]) -> dict[str, str]:
    uses = [f"self.uri.startsWith('{scheme}')" for scheme in schemes]
    if "hf://" in schemes:
        uses.append("!self.uri.contains('://')")  # the hub's, without its scheme
    field, either = to_camel(name), " || ".join(uses)
    said = f"'{field} is used by {_words(schemes)} models only, and uri is ' + self.uri"
    return cel(f"!has(self.{field}) || {either}", said, f".{field}")


def _words(schemes: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(schemes[:-1]), schemes[-1])))


class ModelSpec(BaseModel):
    model_config = strict(*(_rule_of_use(name, schemes) for name, schemes in _USED_BY.items()))

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

    credentials_secret: SecretName | None = Field(
        None,
        description="Secret for s3://, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where there is one, "
        "AWS_SESSION_TOKEN; for oci://, of type kubernetes.io/dockerconfigjson. Default: none.",
    )
    endpoint: str | None = Field(
        None,
        max_length=512,
        pattern=ENDPOINT_PATTERN,
        description="URL of the hub, the S3 server or the registry that is asked instead of the usual one, such as "
        "http://minio.storage:9000. Default: the hub's, Amazon's, or the registry that uri names, by https.",
    )
    region: str | None = Field(
        None, min_length=1, max_length=64, pattern=WORD_PATTERN, description="Region of an s3:// bucket. Default: none."
    )
    cache: ModelCache | None = Field(
        None,
        description="Download the model once, to a volume that pods mount read-only. Default: each pod downloads it.",
    )

    @validates(mode="after")
    def _used_fields(self) -> Self:
        for name, schemes in _USED_BY.items():
            if getattr(self, name) is not None and not self.uri.startswith(schemes):
                raise ValueError(f"{to_camel(name)} is used by {_words(schemes)} models only, got uri {self.uri!r}")
        return self
