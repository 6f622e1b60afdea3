"""spec.endpoint: where clients connect, and who may."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from octavo_operator.api.rules import STRICT, cel, schema
from octavo_operator.api.secrets import SecretName

_ANNOTATION_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_ANNOTATION_FORM = "the form of example.com/name"


def _named(annotations: dict[str, str]) -> dict[str, str]:
    for name in annotations:
        if not re.fullmatch(_ANNOTATION_PATTERN, name):
            raise ValueError(f"names must have {_ANNOTATION_FORM}, got {name!r}")
    return annotations


class RateLimitSpec(BaseModel):
    model_config = STRICT

    requests_per_minute: int | None = Field(
        None, ge=1, le=10**9, description="Most POST requests a minute of one key on one replica. Default: no limit."
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="Most tokens a minute of one key on one replica, prompts and answers together. Default: no limit.",
    )
    max_concurrent_requests: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="Most POST requests under way at a time of one key on one replica. Default: no limit.",
    )


class EndpointSpec(BaseModel):
    model_config = STRICT

    port: int = Field(80, ge=1, le=65535, description="Port of the Service. Default 80.")
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        "ClusterIP", description="Who reaches the Service: ClusterIP, NodePort or LoadBalancer. Default ClusterIP."
    )
    annotations: Annotated[dict[str, Annotated[str, Field(max_length=8192)]], AfterValidator(_named)] = Field(
        default_factory=dict,
        max_length=64,
        description="Annotations of the Service, as a cloud's load balancers read them. Default: none.",
        json_schema_extra=schema(
            cel(
                f"self.all(name, name.matches(r'{_ANNOTATION_PATTERN}'))",
                f"'names must have {_ANNOTATION_FORM}, got '"
                f" + self.filter(name, !name.matches(r'{_ANNOTATION_PATTERN}'))[0]",
            )
        ),
    )
    api_keys_secret: SecretName | None = Field(
        None,
        description="API keys: each entry of the Secret is a name and the API key that opens the endpoint. Changes are "
        "taken over within a minute or two, without a restart. Default: none, everybody may call.",
    )
    tls_secret: SecretName | None = Field(
        None,
        description="Certificate of the endpoint, in a Secret of type kubernetes.io/tls: serve by HTTPS, on port as "
        "elsewhere. A new one is taken over without a restart. Default: none, plain HTTP.",
    )
    rate_limit: RateLimitSpec = Field(
        default_factory=RateLimitSpec,
        description="Limits of each API key on each replica; of all callers together where there are no keys. Default: "
        "none.",
    )
