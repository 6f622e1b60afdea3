"""The LLMService (serving.octavo.dev/v1alpha1): the one source of its schema, its defaults and its validation.

Every rule stands here twice, side by side: as CEL, so that `kubectl apply` refuses a bad spec, and as a validator, so
that a spec stored under an older schema is refused by the operator in the same words.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic import model_validator as validates
from pydantic.alias_generators import to_camel

from octavo_operator.api import pod_schema
from octavo_operator.api.quantities import MIN_MEMORY, Cpu, Memory, PodMemory, parse_memory
from octavo_runtime.config import (
    KNOWN_QUANTIZATION,
    PRESET_FIELDS,
    Duration,
    EngineConfig,
    Quantity,
    explain,
    parse_duration,
)

GROUP = "serving.octavo.dev"
VERSION = "v1alpha1"
KIND = "LLMService"
PLURAL = "llmservices"
API_VERSION = f"{GROUP}/{VERSION}"

MAX_NAME = 40  # a pod's name is the service's, two hashes and two dashes; 63 characters at most
NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
URI_PATTERN = (
    r"^(builtin://[A-Za-z0-9._-]+|hf://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(@[A-Za-z0-9._/-]+)?"
    r"|file:///.+|pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/.+)?)$"
)
URI_FORMS = "builtin://NAME, hf://OWNER/NAME[@REVISION], file:///PATH or pvc://CLAIM/PATH"
WORD_PATTERN = r"^\S+$"
MAX_DRAIN = "1h"
CACHE_MARGIN = "128Mi"  # Python, the weights and all else that is no cache take more than that


def _model_uri(text: str) -> str:
    if not re.fullmatch(URI_PATTERN, text):
        raise ValueError(f"must be {URI_FORMS}, got {text!r}")
    if ".." in text.split("/"):
        raise ValueError(f"must not contain .., got {text!r}")
    return text


def _drain(text: str) -> str:
    if parse_duration(text) > parse_duration(MAX_DRAIN):
        raise ValueError(f"must be at most {MAX_DRAIN}, got {text!r}")
    return text


def _unique(names: list[str]) -> list[str]:
    if twice := [name for position, name in enumerate(names) if name in names[:position]]:
        raise ValueError(f"must be unique, got {twice[0]!r} twice")
    return names


ServedName = Annotated[str, Field(min_length=1, max_length=128, pattern=WORD_PATTERN)]


def _cel(rule: str, message: str, field: str = "") -> dict[str, str]:
    """A CEL rule; `message` is a CEL expression too, since it says the value. `field` is relative, as in `.count`.

    Numbers go into messages by format(): the API server estimates the cost of string() as boundless."""
    return {"rule": rule, "messageExpression": message} | ({"fieldPath": field} if field else {})


def _schema(*rules: dict[str, str], **extra: Any) -> dict[str, Any]:
    return ({"x-kubernetes-validations": list(rules)} if rules else {}) | extra


_STRICT = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


def _strict(*rules: dict[str, str]) -> ConfigDict:
    return ConfigDict(**_STRICT, json_schema_extra=_schema(*rules))


class SecretKey(BaseModel):
    model_config = _STRICT

    name: str = Field(
        min_length=1, max_length=253, description="Name of a Secret in the service's namespace. Required."
    )
    key: str = Field("token", min_length=1, max_length=253, description="Key in the Secret. Default token.")


class ModelSpec(BaseModel):
    model_config = _strict(
        _cel(
            "!has(self.tokenSecret) || self.uri.startsWith('hf://')",
            "'tokenSecret is used by hf:// models only, and uri is ' + self.uri",
            ".tokenSecret",
        )
    )

    uri: Annotated[str, AfterValidator(_model_uri)] = Field(
        max_length=512,
        description=f"Where the model comes from: {URI_FORMS} (a folder or a .gguf file). Required.",
        json_schema_extra=_schema(
            _cel(f"self.matches(r'{URI_PATTERN}')", f"'must be {URI_FORMS}, got ' + self"),
            _cel("!self.split('/').exists(part, part == '..')", "'must not contain .., got ' + self"),
        ),
    )
    served_names: Annotated[list[ServedName], AfterValidator(_unique)] = Field(
        default_factory=list,
        max_length=8,
        description="Names that clients call the model by. Default: the model's own name, such as smollm2.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    token_secret: SecretKey | None = Field(
        None, description="Access token for a gated or private hf:// model. Default: none."
    )

    @validates(mode="after")
    def _token_needs_hub(self) -> Self:
        if self.token_secret is not None and not self.uri.startswith("hf://"):
            raise ValueError(f"tokenSecret is used by hf:// models only, got uri {self.uri!r}")
        return self


if TYPE_CHECKING:
    EngineSpec = EngineConfig
else:

    def _engine_field(name: str) -> tuple[Any, Any]:
        """A field of EngineConfig as one of the LLMService."""
        field = EngineConfig.model_fields[name]
        if field.annotation == Quantity | None:
            return Memory | None, field
        if name in PRESET_FIELDS:
            # No default in the schema: it could not be told from a value that the user wrote beside a preset.
            return Annotated[field.annotation | None, *field.metadata], Field(None, description=field.description)
        return field.annotation, field

    # The model and the device are said elsewhere in the spec; every other knob of the engine is one here.
    EngineSpec = create_model(
        "EngineSpec",
        __config__=_strict(
            _cel(
                "!has(self.blockSize) || self.blockSize in [8, 16, 32, 64, 128, 256]",
                "'must be a power of two from 8 to 256, got %d'.format([self.blockSize])",
                ".blockSize",
            ),
            _cel(
                "!has(self.quantization)",
                f"'must be unset: weights are served in dtype, and {', '.join(KNOWN_QUANTIZATION)} are not supported, "
                "got ' + self.quantization",
                ".quantization",
            ),
        ),
        **{name: _engine_field(name) for name in EngineConfig.model_fields if name not in ("model", "device")},
    )


class AcceleratorSpec(BaseModel):
    model_config = _STRICT

    type: Literal["cpu", "nvidia"] = Field("cpu", description="What the model runs on: cpu or nvidia. Default cpu.")
    count: int = Field(
        1, ge=1, le=1, description="Devices of one replica; the engine runs on one. Ignored for cpu. Default 1."
    )


class ResourcesSpec(BaseModel):
    model_config = _STRICT

    cpu: Cpu = Field(
        "1",
        description="CPUs that a replica is promised, such as 500m or 4; it may use more where the node has idle ones. "
        "Default 1.",
    )
    memory: PodMemory = Field(
        "4Gi",
        description="Memory that a replica is promised and may use at most. Default 4Gi.",
        json_schema_extra=_schema(
            _cel(
                f"!isQuantity(string(self)) || !quantity(string(self)).isLessThan(quantity('{MIN_MEMORY}'))",
                f"'must be at least {MIN_MEMORY}, with its unit, got %s'.format([self])",
            )
        ),
    )


class TargetsSpec(BaseModel):
    model_config = _STRICT

    cpu_utilization: int = Field(
        80,
        ge=1,
        le=1000,
        description="CPU use to keep, in percent of resources.cpu, as an average over the replicas. Default 80.",
    )


class AutoscalingSpec(BaseModel):
    model_config = _strict(
        _cel(
            "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
            "'must be at most maxReplicas (%d), got %d'.format([self.maxReplicas, self.minReplicas])",
            ".minReplicas",
        )
    )

    min_replicas: int = Field(1, ge=1, le=1000, description="Fewest replicas. Default 1.")
    max_replicas: int = Field(ge=1, le=1000, description="Most replicas. Required.")
    targets: TargetsSpec = Field(default_factory=TargetsSpec, description="What decides. Default: cpuUtilization 80.")

    @validates(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"minReplicas must be at most maxReplicas ({self.max_replicas}), got {self.min_replicas}")
        return self


class SecretName(BaseModel):
    model_config = _STRICT

    name: str = Field(
        min_length=1, max_length=253, description="Name of a Secret in the service's namespace. Required."
    )


class RateLimitSpec(BaseModel):
    model_config = _STRICT

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
    model_config = _STRICT

    port: int = Field(80, ge=1, le=65535, description="Port of the Service. Default 80.")
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        "ClusterIP", description="Who reaches the Service: ClusterIP, NodePort or LoadBalancer. Default ClusterIP."
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


class RolloutSpec(BaseModel):
    model_config = _STRICT

    strategy: Literal["auto", "surge", "recreate"] = Field(
        "auto",
        description="Who goes first when a pod is replaced: surge, the new pod is ready before an old one ends, which "
        "takes room for one more; recreate, an old pod ends and makes room, one replica at a time, so that a service "
        "of one replica does not answer meanwhile. auto is recreate for several replicas on GPUs, by the number that "
        "there is at present, and else surge. Default auto.",
    )
    drain: Annotated[Duration, AfterValidator(_drain)] = Field(
        "300s",
        description="How long running requests may go on when their pod is replaced, such as 90s or 5m. Default 300s.",
        json_schema_extra=_schema(
            _cel(
                f"!self.matches('^[0-9]+(ms|s|m|h)$') || duration(self) <= duration('{MAX_DRAIN}')",
                f"'must be at most {MAX_DRAIN}, got ' + self",
            ),
            maxLength=8,  # CEL cannot read a duration of 300 years
        ),
    )


class ObservabilitySpec(BaseModel):
    model_config = _STRICT

    dashboard: bool = Field(
        True, description="Write a Grafana dashboard into a ConfigMap labelled grafana_dashboard. Default true."
    )


class PodTemplate(BaseModel):
    model_config = _STRICT

    metadata: dict[str, Any] = Field(default_factory=dict, description="Labels and annotations. Default: none.")
    spec: dict[str, Any] = Field(
        default_factory=dict,
        description="Any field of a pod's spec; `kubectl explain pod.spec` lists them. Default: none.",
    )


class LLMServiceSpec(BaseModel):
    model_config = _strict(
        _cel(
            "self.replicas == 1 || !has(self.autoscaling)",
            "'set replicas or autoscaling, not both: replicas is %d; remove it or autoscaling'.format([self.replicas])",
            ".replicas",
        ),
        _cel(
            "self.accelerator.type != 'cpu' || !has(self.engine.kvCacheMemory)"
            " || !isQuantity(string(self.engine.kvCacheMemory)) || !isQuantity(string(self.resources.memory))"
            f" || !quantity(string(self.engine.kvCacheMemory)).add(quantity('{CACHE_MARGIN}'))"
            ".isGreaterThan(quantity(string(self.resources.memory)))",
            f"'must be less than resources.memory (%s) by {CACHE_MARGIN} at least, got %s'"
            ".format([self.resources.memory, self.engine.kvCacheMemory])",
            ".engine.kvCacheMemory",
        ),
    )

    model: ModelSpec = Field(description="The model to serve. Required.")
    engine: EngineSpec = Field(
        default_factory=EngineSpec, description="Settings of the engine. Default: each at its own default."
    )
    accelerator: AcceleratorSpec = Field(
        default_factory=AcceleratorSpec, description="What the model runs on. Default: the CPU."
    )
    resources: ResourcesSpec = Field(
        default_factory=ResourcesSpec, description="What each replica needs. Default: cpu 1, memory 4Gi."
    )
    replicas: int = Field(
        # A default in the schema, since the scale subresource cannot be read without a number.
        1,
        ge=0,
        le=1000,
        description="Number of pods; `kubectl scale` writes it. Not together with autoscaling. Where it is left out, "
        "an autoscaler of your own may scale the Deployment. Default 1.",
    )
    autoscaling: AutoscalingSpec | None = Field(
        None, description="Let the load decide the number of pods. Default: off, replicas decides."
    )
    endpoint: EndpointSpec = Field(
        default_factory=EndpointSpec, description="Where clients connect. Default: a ClusterIP Service on port 80."
    )
    rollout: RolloutSpec = Field(
        default_factory=RolloutSpec, description="How pods are replaced. Default: requests get 300s to finish."
    )
    image: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Image of the pods. Default: the one that the operator was installed with.",
    )
    pod_template: PodTemplate = Field(
        default_factory=PodTemplate,
        description="Last resort: merged over the pod template that the operator builds. Lists merge by the key that "
        "Kubernetes gives them (containers, volumes and env by name, the container is called engine; volumeMounts by "
        "mountPath; ports by containerPort); tolerations are added, and so are args that start with a dash; a null "
        "removes; all else replaces. Default: empty.",
    )
    observability: ObservabilitySpec = Field(
        default_factory=ObservabilitySpec, description="What watches the service. Default: a dashboard."
    )

    @validates(mode="after")
    def _one_way_to_scale(self) -> Self:
        if self.replicas != 1 and self.autoscaling is not None:
            raise ValueError(f"set replicas or autoscaling, not both: got replicas {self.replicas} beside autoscaling")
        return self

    @validates(mode="after")
    def _cache_fits_memory(self) -> Self:
        cache = self.engine.kv_cache_memory
        if (
            self.accelerator.type == "cpu"
            and cache is not None
            and parse_memory(cache) + parse_memory(CACHE_MARGIN) > parse_memory(self.resources.memory)
        ):
            raise ValueError(
                f"engine.kvCacheMemory must be less than resources.memory ({self.resources.memory}) by {CACHE_MARGIN} "
                f"at least, got {cache}"
            )
        return self


class Condition(BaseModel):
    model_config = _STRICT

    type: str = Field(max_length=316, description="Valid, Available, Progressing, Ready or Stalled.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(max_length=1024, description="Why, in one CamelCase word.")
    message: str = Field(max_length=32768, description="Why, in words, and what to do about it.")
    last_transition_time: str = Field(
        description="When the status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(description="The metadata.generation that this condition speaks of.")


class LLMServiceStatus(BaseModel):
    model_config = _STRICT

    observed_generation: int = Field(
        -1,
        description="The metadata.generation that this status speaks of; -1 until it was looked at.",
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Valid, Available, Progressing and Ready; Stalled where only a person can go on.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    url: str | None = Field(None, description="Base URL for OpenAI clients inside the cluster.")
    replicas: int = Field(
        0, description="Pods that exist, those of a rollout's former spec among them; an autoscaler reads it."
    )
    ready_replicas: int = Field(0, description="Pods that answer requests.")
    readiness: str | None = Field(None, description="Pods that answer, of those wanted, such as 1/2.")
    selector: str | None = Field(None, description="Label selector of the pods.")


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
    replicas_said: bool = True  # whether somebody asked for spec.replicas, or the schema filled it in

    @property
    def url(self) -> str:
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
        spec=_with_fitted_template(document.spec),
        replicas_said=_says_replicas(body),
    )


def _with_fitted_template(spec: LLMServiceSpec) -> LLMServiceSpec:
    try:
        template = pod_schema.fitted(spec.pod_template.model_dump(), "spec.podTemplate")
    except pod_schema.Misfit as error:
        raise InvalidSpec(str(error)) from None
    return spec.model_copy(update={"pod_template": PodTemplate.model_construct(**template)})


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
