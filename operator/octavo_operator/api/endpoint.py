"""spec.endpoint: where clients connect, and who may."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from octavo_operator.api.annotations import Annotations, annotations
from octavo_operator.api.routes import GatewaySpec, IngressSpec
from octavo_operator.api.rules import STRICT
from octavo_operator.api.secrets import SecretName

NamespaceName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


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
    annotations: Annotations = annotations("Annotations of the Service, as a cloud's load balancers read them.")
    allowed_namespaces: Annotated[
        list[NamespaceName] | None,
        Field(max_length=64),
    ] = Field(
        None,
        description="Names of the namespaces whose pods reach the endpoint, by a NetworkPolicy; its own only where it "
        "is named. Metrics then have a port of their own, 8001, for the operator and the namespaces of the chart's "
        "networkPolicy.metricsFrom. The cluster's network must enforce policies. Default: all; with accelerator.nodes "
        "a policy keeps them to the API.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
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
    ingress: IngressSpec | None = Field(
        None, description="An Ingress that leads to the Service from outside of the cluster. Default: none."
    )
    gateway: GatewaySpec | None = Field(
        None,
        description="An HTTPRoute of the Gateway API (gateway.networking.k8s.io/v1) that leads from a Gateway to the "
        "Service. Default: none.",
    )
