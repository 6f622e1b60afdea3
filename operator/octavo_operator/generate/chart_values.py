"""The values of the Helm chart: the one source of values.yaml and values.schema.json."""

import json
import textwrap
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from octavo_operator.api.endpoint import NamespaceName
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


class Webhook(BaseModel):
    model_config = _STRICT

    enabled: bool = Field(False, description="Serve it.")
    failure_policy: Literal["Ignore", "Fail"] = Field(
        "Ignore",
        description="What becomes of a change while the operator does not answer: Ignore, it is stored, and refused in "
        "the service's status; Fail, it is refused.",
    )


class Prometheus(BaseModel):
    model_config = _STRICT

    url: str = Field(
        "",
        pattern=r"^(https?://.*)?$",
        description="Address of the Prometheus that scrapes the pods, such as http://prometheus.monitoring.svc:9090, "
        "for services with spec.autoscaling.provider keda.",
    )


class Monitoring(BaseModel):
    model_config = _STRICT

    enabled: bool | Literal["auto"] = Field(
        "auto",
        description="Make the PodMonitors and the PrometheusRule of the Prometheus operator: auto, where the API "
        "server knows them at helm install or upgrade. Other Prometheuses find the pods by their annotations.",
    )
    rules: bool = Field(
        True,
        description="Among them the PrometheusRule. Its rules are about every service that Prometheus sees: of several "
        "releases beside one Prometheus, one brings them.",
    )
    dashboards: bool = Field(
        True,
        description="Make Grafana's dashboards, of all services and of one, in ConfigMaps labelled grafana_dashboard. "
        "Of several releases beside one Grafana, one brings them.",
    )
    labels: dict[str, Text | bool] = Field(
        default_factory=dict,
        description="Labels of the PodMonitors and the PrometheusRule, where a Prometheus takes only such, as in "
        "{release: kube-prometheus-stack}.",
    )
    interval: str = Field("15s", pattern=DURATION_PATTERN, description="How often pods are scraped.")
    runbooks: str = Field(
        "docs/runbooks.md",
        min_length=1,
        description="Where your copy of docs/runbooks.md is to be read: the alerts' runbook_url leads there.",
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


class PodTemplate(BaseModel):
    model_config = _STRICT

    allow: Literal["restricted", "all"] = Field(
        "restricted",
        description="restricted: what the Restricted Pod Security Standard lets a pod do, so no root, no path of a "
        "node and none of its namespaces; all: whatever the API server takes.",
    )


class NetworkPolicies(BaseModel):
    model_config = _STRICT

    metrics_from: list[str] = Field(
        default_factory=list,
        description="Namespaces that scrape the pods, such as monitoring; the operator always may.",
    )


class Rollouts(BaseModel):
    model_config = _STRICT

    at_once: int = Field(
        1,
        ge=0,
        description="How many services at a time. One that does not come to its end keeps its turn, so that a bad "
        "image stops there; a larger number goes on without it. 0: none, for as long as that stands.",
    )


class Values(BaseModel):
    model_config = _STRICT | {"title": "Values of the octavo chart"}

    image_registry: str = Field(
        "",
        max_length=255,
        description="Registry, and a path in it, that both images are pulled from, such as "
        "registry.example.com/mirror; global.imageRegistry wins over it. Empty: as their repositories say.",
    )
    image: Image = Field(default_factory=Image, description="The operator's image.")
    replicas: int = Field(
        1,
        ge=1,
        le=5,
        description="Pods of the operator. One works, and another takes over at once when it ends, or 15 s after it "
        "was last heard of. With 1, services wait meanwhile for a new pod; they answer requests all the same.",
    )
    runtime: RuntimeImage = Field(default_factory=RuntimeImage, description="The image that serves models.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When nodes pull both images: Always, IfNotPresent or Never."
    )
    image_pull_secrets: list[dict[str, str]] = Field(
        default_factory=list, description="Secrets to pull the operator's image with, as in [{name: registry}]."
    )
    namespaces: list[NamespaceName] = Field(
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
        "replaces the pods of one service after another.",
    )
    pod_template: PodTemplate = Field(default_factory=PodTemplate, description="What spec.podTemplate may do.")
    network_policy: NetworkPolicies = Field(
        default_factory=NetworkPolicies,
        description="The network policies of services with spec.endpoint.allowedNamespaces.",
    )
    rollouts: Rollouts = Field(
        default_factory=Rollouts,
        description="How services get what the chart brings: another runtime image, podDefaults, propagate.",
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
    webhook: Webhook = Field(
        default_factory=Webhook,
        description="A validating webhook: what the definition's own rules cannot see, such as spec.podTemplate, is "
        "refused at kubectl apply. It takes a configuration on the cluster, also for some namespaces.",
    )
    monitoring: Monitoring = Field(
        default_factory=Monitoring, description="Who watches the services, by Prometheus and Grafana."
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


def defaults() -> str:
    """defaults.json: what the templates take where a value is not there at all, as after `helm upgrade --reuse-values`
    from a chart that did not know it yet."""
    return json.dumps(Values().model_dump(by_alias=True, exclude_none=True), indent=2) + "\n"


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
