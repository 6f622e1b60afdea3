"""One LLMService as it is stored, read and checked."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from octavo_operator.api import pod_schema, slo
from octavo_operator.api.definition import MAX_NAME, NAME_PATTERN
from octavo_operator.api.pod_template import PodTemplate
from octavo_operator.api.spec import LLMServiceSpec
from octavo_runtime.config.explain import explain

Key = tuple[str, str]  # namespace and name of a service


class InvalidSpec(ValueError):
    """One line that names the field, its bound and its value."""


@dataclass(frozen=True)
class LLMService:
    """One LLMService as stored, with its spec validated and its defaults filled in."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: LLMServiceSpec
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    replicas_said: bool = True  # whether somebody asked for spec.replicas, or the schema filled it in
    cached: str | None = None  # folder of the model in its cache, once it is there

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def url(self) -> str:
        """Where clients connect: from outside of the cluster, where there is a route."""
        gateway, ingress = self.spec.endpoint.gateway, self.spec.endpoint.ingress
        if gateway is not None:
            return f"{gateway.scheme}://{gateway.hostname}/v1"
        if ingress is not None:
            return f"{'http' if ingress.tls_secret is None else 'https'}://{ingress.host}/v1"
        return self.cluster_url

    @property
    def cluster_url(self) -> str:
        """Where clients inside the cluster connect."""
        port, scheme, usual = self.spec.endpoint.port, "http", 80
        if self.spec.endpoint.tls_secret is not None:
            scheme, usual = "https", 443
        return f"{scheme}://{self.name}.{self.namespace}.svc{'' if port == usual else f':{port}'}/v1"


class _Document(BaseModel):
    spec: LLMServiceSpec


def parse(body: dict[str, Any]) -> LLMService:
    """The LLMService in an object of the API server; InvalidSpec if it does not hold to the schema or the rules."""
    metadata = body["metadata"]
    if len(metadata["name"]) > MAX_NAME or not re.fullmatch(NAME_PATTERN, metadata["name"]):
        raise InvalidSpec(
            f"metadata.name: must be at most {MAX_NAME} lower-case letters, digits and dashes and start with a letter, "
            f"got {metadata['name']!r}"
        )
    try:
        document = _Document.model_validate({"spec": body.get("spec") or {}})
    except ValidationError as error:
        raise InvalidSpec(explain(error)) from None
    return LLMService(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        spec=_with_targets_of_slo(_with_fitted_template(document.spec)),
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        replicas_said=_says_replicas(body),
    )


def _with_fitted_template(spec: LLMServiceSpec) -> LLMServiceSpec:
    try:
        template = pod_schema.fitted(spec.pod_template.model_dump(), "spec.podTemplate")
    except pod_schema.Misfit as error:
        raise InvalidSpec(str(error)) from None
    return spec.model_copy(update={"pod_template": PodTemplate.model_construct(**template)})


def _with_targets_of_slo(spec: LLMServiceSpec) -> LLMServiceSpec:
    if spec.autoscaling is None:
        return spec
    targets = slo.with_targets(spec.slo, spec.autoscaling.targets)
    return spec.model_copy(update={"autoscaling": spec.autoscaling.model_copy(update={"targets": targets})})


def _says_replicas(body: dict[str, Any]) -> bool:
    """Whether a person or an autoscaler wrote spec.replicas. The schema's default looks the same as a 1 that was
    written, but for the records of who wrote what."""
    spec, metadata = body.get("spec") or {}, body["metadata"]
    if "replicas" not in spec:
        return False
    if spec["replicas"] != 1 or "managedFields" not in metadata:
        return True
    applied = metadata.get("annotations", {}).get("kubectl.kubernetes.io/last-applied-configuration")
    if applied is not None and "replicas" in json.loads(applied).get("spec", {}):
        return True
    for entry in metadata["managedFields"]:
        fields = entry.get("fieldsV1", {}).get("f:spec", {})
        # Who creates an object by other means than apply is recorded as the writer of its defaults too.
        if "f:replicas" in fields and (entry["operation"] == "Apply" or "." not in fields):
            return True
    return False
