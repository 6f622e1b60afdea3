"""spec.endpoint.ingress and spec.endpoint.gateway: the ways from outside of the cluster to the Service."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from octavo_operator.api.annotations import Annotations, annotations
from octavo_operator.api.rules import STRICT, cel, schema
from octavo_operator.api.secrets import SecretName

# The last part begins with a letter: an IP address is no host name.
_HOST_PATTERN = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z]([-a-z0-9]*[a-z0-9])?$"
_HOST_FORM = "a host name such as chat.example.com"
_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


def _host(name: str) -> str:
    if not re.fullmatch(_HOST_PATTERN, name):
        raise ValueError(f"must be {_HOST_FORM}, got {name!r}")
    return name


Host = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=schema(cel(f"self.matches(r'{_HOST_PATTERN}')", f"'must be {_HOST_FORM}, got ' + self")),
    ),
    AfterValidator(_host),
]
Name = Annotated[str, Field(min_length=1, max_length=253, pattern=_NAME_PATTERN)]


class IngressSpec(BaseModel):
    model_config = STRICT

    host: Host = Field(description="Host name that clients use; all its paths lead to the service. Required.")
    class_name: Name | None = Field(
        None, description="IngressClass, which says what controller serves it. Default: the cluster's default class."
    )
    tls_secret: SecretName | None = Field(
        None,
        description="Certificate of the host, in a Secret of type kubernetes.io/tls, or where a tool such as "
        "cert-manager is to put it: clients then use HTTPS. Default: none, plain HTTP.",
    )
    annotations: Annotations = annotations(
        "Annotations of the Ingress, by which its controller is told all else, such as how long an answer may take."
    )


class GatewaySpec(BaseModel):
    model_config = STRICT

    name: Name = Field(description="Name of the Gateway. Required.")
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)] | None = Field(
        None, description="Namespace of the Gateway, which must allow routes of this one. Default: the service's own."
    )
    section_name: Name | None = Field(
        None, description="Listener of the Gateway. Default: each that takes the host name."
    )
    hostname: Host = Field(description="Host name that clients use; all its paths lead to the service. Required.")
    scheme: Literal["https", "http"] = Field(
        "https", description="What the listener speaks, for status.url: https or http. Default https."
    )
    annotations: Annotations = annotations("Annotations of the HTTPRoute.")
