"""Settings of the operator, read from environment variables that start with OCTAVO_."""

import json
import socket
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from octavo_operator.api.definition import GROUP
from octavo_operator.api.pod_schema import fitted
from octavo_runtime.config.units import Duration, parse_duration


def _at_least_a_second(text: str) -> str:
    if parse_duration(text) < 1:
        raise ValueError(f"must be at least 1s, got {text!r}")
    return text


def _not_reserved(keys: list[str]) -> list[str]:
    for key in keys:
        if any(key.startswith(prefix) for prefix in _RESERVED):
            raise ValueError(f"must not be Octavo's or kubectl's own ({', '.join(_RESERVED)}), got {key!r}")
    return keys


# What these say is meant for one object: what kubectl applied to it, what the operator made of it.
_RESERVED = (f"{GROUP}/", "kubectl.kubernetes.io/")
HandedDown = Annotated[list[str], NoDecode, AfterValidator(_not_reserved)]


_DEFAULTED = ("imagePullSecrets", "nodeSelector", "tolerations", "runtimeClassName", "priorityClassName", "env")


def _pod_defaults(given: dict[str, Any]) -> dict[str, Any]:
    for name in given.keys() - set(_DEFAULTED):
        raise ValueError(f"must hold none but {', '.join(_DEFAULTED)}, got {name!r}")
    said = {name: value for name, value in given.items() if value}
    env = {"env": said.pop("env")} if "env" in said else {}
    return fitted(said, "podDefaults", "V1PodSpec") | fitted(env, "podDefaults", "V1Container")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="OCTAVO_", frozen=True)

    runtime_image: str = Field(min_length=1, description="Image of services that name none. Required.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When nodes pull that image. Default IfNotPresent."
    )
    namespaces: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Namespaces to serve, separated by commas. Default: all."
    )
    installation: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        description="Name of this installation, unique in the cluster: no two serve one namespace. Default: the host's "
        "name.",
    )
    propagate_labels: HandedDown = Field(
        default_factory=list,
        description="Labels of a service that its objects and pods get too, separated by commas; one that ends in / "
        "stands for all that begin with it. Default: none.",
    )
    propagate_annotations: HandedDown = Field(
        default_factory=list, description="Annotations that they get too, in the same way. Default: none."
    )
    pod_defaults: Annotated[dict[str, Any], NoDecode, AfterValidator(_pod_defaults)] = Field(
        default_factory=dict,
        description=f"JSON object of what pods get unless their service says otherwise: {', '.join(_DEFAULTED)}. "
        "Default: none.",
    )
    pod_template: Literal["restricted", "all"] = Field(
        "restricted",
        description="What spec.podTemplate may do: restricted, what the Restricted Pod Security Standard lets a pod "
        "do; all, whatever the API server takes. Default restricted.",
    )
    rollouts_at_once: int = Field(
        1,
        ge=0,
        description="How many services at a time roll out what the operator brings, such as another runtime image. "
        "Default 1.",
    )
    leader_lease: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="NAMESPACE/NAME of the Lease by which several replicas elect their leader; the others wait. "
        "Default: none, and this is the only one.",
    )
    replica: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        description="Name of this replica among them. Default: the host's, which is the pod's.",
    )
    resync: Annotated[Duration, AfterValidator(_at_least_a_second)] = Field(
        "10m", description="How often a service is looked at when nothing happens. Default 10m."
    )
    health_port: int = Field(8081, ge=1, le=65535, description="Port of the operator's own health check. Default 8081.")
    metrics_port: int = Field(8082, ge=1, le=65535, description="Port of the operator's own metrics. Default 8082.")
    operator_namespace: str | None = Field(
        None, description="Namespace of the operator's own pod, for the network policies of services. Default: none."
    )
    metrics_from: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Namespaces that scrape the pods of services with a network policy, separated by commas. "
        "Default: none.",
    )
    prometheus_url: str | None = Field(
        None,
        pattern=r"^https?://",
        max_length=512,
        description="Prometheus that scrapes the pods, for services that KEDA scales. Default: none.",
    )
    metrics_api: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="NAMESPACE/NAME of the Service that leads the API server to this operator's custom.metrics.k8s.io, "
        "and of the Secret with its certificates. Default: none, and the API is not served.",
    )
    metrics_api_port: int = Field(8443, ge=1, le=65535, description="Port of that API. Default 8443.")
    webhook: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="NAMESPACE/NAME of the Service that leads the API server to this operator's validating webhook, "
        "and of the Secret with its certificates; NAMESPACE-NAME is the webhook's configuration. Default: none, and "
        "it is not served.",
    )
    webhook_port: int = Field(8444, ge=1, le=65535, description="Port of the webhook. Default 8444.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Default info.")

    @field_validator("namespaces", "propagate_labels", "propagate_annotations", "metrics_from", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("pod_defaults", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value
