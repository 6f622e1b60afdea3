"""The values of the Helm chart: the one source of values.yaml and values.schema.json."""

import json
import textwrap
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from octavo_runtime.config.units import DURATION_PATTERN

_STRICT = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")
# What `--set` and YAML take for a number where it has no letter in it.
Text = str | int | float
_WIDTH = 118


class Image(BaseModel):
    model_config = _STRICT

    repository: str = Field("octavo/operator", min_length=1, description="Where the operator's image is.")
    tag: Text = Field("", description="Its tag; empty: the chart's appVersion.")


class RuntimeImage(BaseModel):
    model_config = _STRICT

    repository: str = Field("octavo/runtime", min_length=1, description="Image of services that name none.")
    tag: Text = Field("", description="Its tag; empty: the chart's appVersion.")


class Crds(BaseModel):
    model_config = _STRICT

    enabled: bool = Field(
        True,
        description="Install the LLMService definition, and the rights on it for the cluster's roles view, edit and "
        "admin. The definition stays when the chart goes, and the services with it.",
    )


class ServiceAccount(BaseModel):
    model_config = _STRICT

    annotations: dict[str, Text | bool] = Field(
        default_factory=dict, description="Annotations of the operator's account."
    )


class Quantities(BaseModel):
    model_config = _STRICT

    cpu: Text | None = Field(None, description="CPUs, such as 50m.")
    memory: Text | None = Field(None, description="Bytes, such as 128Mi.")


class Resources(BaseModel):
    model_config = _STRICT

    requests: Quantities = Field(Quantities(cpu="50m", memory="128Mi"), description="What the operator is promised.")
    limits: Quantities = Field(Quantities(memory="512Mi"), description="What it may use at most; no limit of CPU.")


class MetricsApi(BaseModel):
    model_config = _STRICT

    enabled: bool | Literal["auto"] = Field(
        "auto",
        description="Serve custom.metrics.k8s.io to autoscalers, from the pods' own metrics, once a service asks for "
        "it and where nobody else serves it. The API is the whole cluster's: auto serves it where the operator "
        "serves all namespaces; true also for some, with the right to register it on the cluster.",
    )


class Prometheus(BaseModel):
    model_config = _STRICT

    url: str = Field(
        "",
        pattern=r"^(https?://.*)?$",
        description="Address of the Prometheus that scrapes the pods, such as http://prometheus.monitoring.svc:9090, "
        "for services with spec.autoscaling.provider keda.",
    )


class Propagate(BaseModel):
    model_config = _STRICT

    labels: list[str] = Field(
        default_factory=list,
        description="Names of labels, such as team, cost-center; one that ends in / stands for all that begin with it. "
        "A change of such a label, or of this list, replaces pods.",
    )
    annotations: list[str] = Field(default_factory=list, description="Names of annotations, in the same way.")


class Variable(BaseModel):
    model_config = _STRICT

    name: str = Field(min_length=1, description="Its name.")
    value: Text | bool | None = Field(None, description="Its value.")
    value_from: dict[str, Any] | None = Field(None, description="Where its value comes from instead.")


class PodDefaults(BaseModel):
    model_config = _STRICT

    image_pull_secrets: list[dict[str, str]] = Field(
        default_factory=list,
        description="Secrets to pull images with, as in [{name: registry}]; each service's namespace needs its own.",
    )
    node_selector: dict[str, Text | bool] = Field(
        default_factory=dict, description="Labels of nodes that they may run on."
    )
    tolerations: list[dict[str, Any]] = Field(default_factory=list, description="Taints that they tolerate.")
    runtime_class_name: str = Field("", description="RuntimeClass, such as nvidia; empty: the cluster's own.")
    priority_class_name: str = Field("", description="PriorityClass; empty: the cluster's own.")
    env: list[Variable] = Field(
        default_factory=list, description="Variables of the engine, such as [{name: HTTPS_PROXY, value: ...}]."
    )


class Values(BaseModel):
    model_config = _STRICT | {"title": "Values of the octavo chart"}

    image: Image = Field(default_factory=Image, description="The operator's image.")
    runtime: RuntimeImage = Field(default_factory=RuntimeImage, description="The image that serves models.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When nodes pull both images: Always, IfNotPresent or Never."
    )
    image_pull_secrets: list[dict[str, str]] = Field(
        default_factory=list, description="Secrets to pull the operator's image with, as in [{name: registry}]."
    )
    namespaces: list[str] = Field(
        default_factory=list,
        description="Namespaces to serve; empty: all. With a list, the operator has rights in these namespaces only, "
        "and none on the cluster. One that does not exist yet is left out: make it, and run helm upgrade.",
    )
    propagate: Propagate = Field(
        default_factory=Propagate,
        description="Labels and annotations of an LLMService that its objects and pods get too.",
    )
    pod_defaults: PodDefaults = Field(
        default_factory=PodDefaults,
        description="What the pods of services get unless spec.env or spec.podTemplate says otherwise. A change "
        "replaces the pods of all services at the same time, each by its own rollout.strategy.",
    )
    resync: str = Field(
        "10m", pattern=DURATION_PATTERN, description="How often a service is looked at when nothing happens."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error."
    )
    crds: Crds = Field(default_factory=Crds, description="The custom resource definition.")
    service_account: ServiceAccount = Field(default_factory=ServiceAccount, description="The operator's identity.")
    resources: Resources = Field(default_factory=Resources, description="Resources of the operator's pod.")
    metrics_api: MetricsApi = Field(
        default_factory=MetricsApi, description="The metrics of spec.autoscaling.provider builtin."
    )
    prometheus: Prometheus = Field(
        default_factory=Prometheus, description="The metrics of spec.autoscaling.provider keda."
    )
    pod_annotations: dict[str, Text | bool] = Field(
        default_factory=dict, description="Annotations of the operator's pod."
    )
    node_selector: dict[str, Text | bool] = Field(
        default_factory=dict, description="Labels of nodes that it may run on."
    )
    tolerations: list[dict[str, Any]] = Field(default_factory=list, description="Taints that it tolerates.")
    affinity: dict[str, Any] = Field(default_factory=dict, description="Which nodes it prefers.")


def values_yaml() -> str:
    """values.yaml: every default, under its description."""
    return "# Values of the octavo chart.\n" + _render(Values(), 0)


def values_schema() -> dict[str, Any]:
    """values.schema.json: what `helm install` checks values against."""
    schema = Values.model_json_schema(by_alias=True)
    # Helm adds the values that every chart has.
    schema["properties"]["global"] = {"type": "object"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def _render(model: BaseModel, depth: int) -> str:
    indent = "  " * depth
    lines = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if value is None:
            continue
        lines += textwrap.wrap(f"# {field.description}", _WIDTH, initial_indent=indent, subsequent_indent=indent + "# ")
        if isinstance(value, BaseModel):
            lines.append(f"{indent}{field.alias}:\n{_render(value, depth + 1).rstrip()}")
        else:
            lines.append(f"{indent}{field.alias}: {json.dumps(value)}")
        if depth == 0:
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"
