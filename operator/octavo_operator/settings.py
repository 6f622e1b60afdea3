"""Settings of the operator, read from environment variables that start with OCTAVO_."""

import socket
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from octavo_runtime.config.units import Duration, parse_duration


def _at_least_a_second(text: str) -> str:
    if parse_duration(text) < 1:
        raise ValueError(f"must be at least 1s, got {text!r}")
    return text


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
    resync: Annotated[Duration, AfterValidator(_at_least_a_second)] = Field(
        "10m", description="How often a service is looked at when nothing happens. Default 10m."
    )
    health_port: int = Field(8081, ge=1, le=65535, description="Port of the operator's own health check. Default 8081.")
    metrics_port: int = Field(8082, ge=1, le=65535, description="Port of the operator's own metrics. Default 8082.")
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
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Default info.")

    @field_validator("namespaces", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
