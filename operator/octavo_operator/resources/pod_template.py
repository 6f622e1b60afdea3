"""Template of the pods: one container named `engine` that runs `octavo serve`."""

import math
from typing import Any

from octavo_operator.api import InvalidSpec, LLMService, engine
from octavo_operator.api.accelerator import GPU
from octavo_operator.resources import cache_claim, metadata, pod_security
from octavo_operator.resources.overlay import merge
from octavo_operator.settings import Settings
from octavo_operator.sizing import GPU_PRODUCT
from octavo_runtime.config.flags import engine_flags, flag
from octavo_runtime.config.units import parse_duration

PORT = 8000
METRICS_PORT = 8001
CONTAINER = "engine"
USER = 10001
CACHE = "/var/cache/octavo"
MODELS = "/models"
MODEL_VOLUME = "model"
API_KEYS = "/etc/octavo/api-keys"
TLS = "/etc/octavo/tls"
REGISTRY = "/etc/octavo/registry"

# Variables that say who is asked instead of the usual one.
_ENDPOINT_OF = {"hf": "HF_ENDPOINT", "s3": "AWS_ENDPOINT_URL", "oci": "OCTAVO_OCI_ENDPOINT"}

# After a pod is told to end, proxies still send it new connections for a moment: it must not stop listening before.
ENDPOINTS_SETTLE = 5
SHUTDOWN_MARGIN = 15


def build(service: LLMService, settings: Settings) -> dict[str, Any]:
    """The pod template. Each layer lies over the last: what is handed down, the operator's own, the installation's
    defaults, the plain fields of the spec, spec.podTemplate. Raises InvalidSpec where the result is more than the
    installation allows."""
    template = {
        "metadata": {
            "labels": metadata.labels(service),
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(metrics_port(service)),
                "prometheus.io/path": "/metrics",
                "prometheus.io/scheme": _scheme(service).lower(),
            },
        },
        "spec": _pod_spec(service, settings),
    }
    merged: dict[str, Any] = {"metadata": metadata.handed_down(service, settings)}
    layers = (template, _defaults(settings), _fields(service), service.spec.pod_template.model_dump())
    for layer in layers:
        merged = merge(merged, layer)
    labels = merged.setdefault("metadata", {}).setdefault("labels", {})
    labels |= metadata.selector(service.name)  # else the Deployment would not own its pods
    if settings.pod_template == "restricted":
        merged["spec"] = pod_security.hardened(merged["spec"])
        if breach := pod_security.first_breach(merged["spec"]):
            allowed = "the operator's chart allows it by podTemplate.allow: all"
            raise InvalidSpec(f"spec.podTemplate.spec.{breach}, by the Restricted Pod Security Standard; {allowed}")
    return merged


def of_worker(template: dict[str, Any]) -> dict[str, Any]:
    """The template of the pods of a group that do not lead it, from the leader's: they have no metrics to scrape."""
    annotations = template["metadata"].get("annotations", {}).items()
    kept = {name: value for name, value in annotations if not name.startswith("prometheus.io/")}
    return template | {"metadata": template["metadata"] | {"annotations": kept}}


def engine_of(template: dict[str, Any]) -> dict[str, Any] | None:
    """The engine's container in a pod template, or in a pod."""
    containers = (template.get("spec") or {}).get("containers") or []
    return next((container for container in containers if container.get("name") == CONTAINER), None)


def runs_as_asked(service: LLMService, container: dict[str, Any]) -> bool:
    """Whether a container runs the server with the arguments of spec.engine alone."""
    return "command" not in container and container.get("args") == _arguments(service)


def _defaults(settings: Settings) -> dict[str, Any]:
    of_pod = {name: value for name, value in settings.pod_defaults.items() if name != "env"}
    return {"spec": of_pod | _of_engine(settings.pod_defaults.get("env", []))}


def _fields(service: LLMService) -> dict[str, Any]:
    """What the spec says of pods by fields of its own."""
    said = service.spec
    variables = [variable.model_dump(by_alias=True, exclude_defaults=True) for variable in said.env]
    tolerations = [each.model_dump(by_alias=True, exclude_none=True) for each in said.tolerations]
    placed: dict[str, Any] = {"nodeSelector": said.node_selector, "tolerations": tolerations}
    return {"spec": {name: value for name, value in placed.items() if value} | _of_engine(variables)}


def _of_engine(variables: list[dict[str, Any]]) -> dict[str, Any]:
    return {"containers": [{"name": CONTAINER, "env": variables}]}


def _pod_spec(service: LLMService, settings: Settings) -> dict[str, Any]:
    drain = math.ceil(parse_duration(service.spec.rollout.drain))
    pod: dict[str, Any] = {
        "serviceAccountName": service.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": ENDPOINTS_SETTLE + drain + SHUTDOWN_MARGIN,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # Over the nodes where that can be, each rollout's pods for themselves: what dies with a node is few of them.
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": metadata.selector(service.name)},
                "matchLabelKeys": ["pod-template-hash"],
            }
        ],
        "containers": [_container(service, settings)],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "cache", "emptyDir": {}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    if claim := _claim(service):
        source: dict[str, Any] = {"claimName": claim}
        if service.spec.model.cache is None:  # else a Job writes to it while pods read
            source["readOnly"] = True
        pod["volumes"].append({"name": MODEL_VOLUME, "persistentVolumeClaim": source})
    for name, secret, _ in _secrets(service):
        # Readable by the group of the server's user alone.
        pod["volumes"].append({"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}})
    if registry := _registry(service):
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        secret_source: dict[str, Any] = {"secretName": registry, "defaultMode": 0o440, "items": items}
        pod["volumes"].append({"name": "registry", "secret": secret_source})
    if service.spec.accelerator.type == "nvidia":
        pod["tolerations"] = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
        if product := service.spec.accelerator.product:
            pod["nodeSelector"] = {GPU_PRODUCT: product}
    return pod


def _container(service: LLMService, settings: Settings) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount of the pod's own
        {"name": "cache", "mountPath": CACHE},
        {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if _claim(service):
        mounts.append({"name": MODEL_VOLUME, "mountPath": MODELS, "readOnly": True})
    mounts += [{"name": name, "mountPath": path, "readOnly": True} for name, _, path in _secrets(service)]
    if _registry(service):
        mounts.append({"name": "registry", "mountPath": REGISTRY, "readOnly": True})
    return {
        "name": CONTAINER,
        "image": service.spec.image or settings.runtime_image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": _arguments(service),
        "env": _environment(service),
        "ports": _ports(service),
        "resources": _resources(service),
        "volumeMounts": mounts,
        # The server listens while the model still loads: loading, however long, is told by readiness alone, and
        # liveness restarts an engine that hangs or has died.
        "startupProbe": _probe(service, "/health/live", periodSeconds=1, timeoutSeconds=5, failureThreshold=120),
        "livenessProbe": _probe(service, "/health/live", periodSeconds=5, timeoutSeconds=5, failureThreshold=4),
        "readinessProbe": _probe(service, "/health/ready", periodSeconds=2, timeoutSeconds=5, failureThreshold=2),
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINTS_SETTLE}}},
        # The last lines of a crashed engine's log then stand in the pod's status, where the operator reads them.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def metrics_port(service: LLMService) -> int:
    """One of their own where a network policy has to tell who scrapes from who asks the model."""
    return PORT if service.spec.endpoint.allowed_namespaces is None else METRICS_PORT


def _ports(service: LLMService) -> list[dict[str, Any]]:
    ports = {"http": PORT} | ({"metrics": METRICS_PORT} if metrics_port(service) != PORT else {})
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()]


def _probe(service: LLMService, path: str, **numbers: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http", "scheme": _scheme(service)}, **numbers}


def _scheme(service: LLMService) -> str:
    return "HTTP" if service.spec.endpoint.tls_secret is None else "HTTPS"


def _secrets(service: LLMService) -> list[tuple[str, str, str]]:
    """Volume, Secret and path of each Secret that the server reads, and goes on reading, from files."""
    endpoint = service.spec.endpoint
    wanted = (("api-keys", endpoint.api_keys_secret, API_KEYS), ("tls", endpoint.tls_secret, TLS))
    return [(volume, secret.name, path) for volume, secret, path in wanted if secret is not None]


def _registry(service: LLMService) -> str | None:
    """The Secret by which a registry is asked."""
    model = service.spec.model
    secret = model.credentials_secret
    return secret.name if secret is not None and model.uri.startswith("oci://") else None


def _arguments(service: LLMService) -> list[str]:
    spec = service.spec
    device = "cuda" if spec.accelerator.type == "nvidia" else "cpu"
    arguments = ["serve", model(service), "--host", "::", "--port", str(PORT), "--device", device]
    if spec.tensor_parallel_size > 1:
        arguments += [flag("tensor_parallel_size"), str(spec.tensor_parallel_size)]
    if spec.accelerator.nodes > 1:  # the variables are LeaderWorkerSet's, in every pod of a group
        arguments += [flag("nnodes"), str(spec.accelerator.nodes), flag("node_rank"), "$(LWS_WORKER_INDEX)"]
        arguments += [flag("master_addr"), "$(LWS_LEADER_ADDRESS)"]
    if metrics_port(service) != PORT:
        arguments += ["--metrics-port", str(METRICS_PORT)]
    for name in spec.model.served_names:
        arguments += ["--served-name", name]
    arguments += ["--drain", spec.rollout.drain, "--log-format", "json"]
    if spec.endpoint.api_keys_secret is not None:
        arguments += ["--api-key-file", API_KEYS]
    if spec.endpoint.tls_secret is not None:
        arguments += ["--tls-cert", f"{TLS}/tls.crt", "--tls-key", f"{TLS}/tls.key"]
    for name, limit in spec.endpoint.rate_limit.model_dump(exclude_none=True).items():
        arguments += [flag(name), str(limit)]
    # Kubernetes reads $(NAME) in arguments, and $$ as $.
    arguments += [word.replace("$", "$$") for word in engine_flags(engine.said(spec.engine))]
    return arguments + spec.engine.extra_args


def model(service: LLMService) -> str:
    """What the engine is told to load; a volume claim is a folder to it."""
    uri = service.spec.model.uri
    if service.cached is not None:
        return f"file://{MODELS}/{service.cached}"
    if not uri.startswith("pvc://"):
        return uri
    path = uri.removeprefix("pvc://").partition("/")[2]
    return f"file://{MODELS}/{path}".rstrip("/")


def _claim(service: LLMService) -> str | None:
    uri = service.spec.model.uri
    if service.spec.model.cache is not None:
        return cache_claim.name(service)
    return uri.removeprefix("pvc://").partition("/")[0] if uri.startswith("pvc://") else None


def _environment(service: LLMService) -> list[dict[str, Any]]:
    model = service.spec.model
    environment: list[dict[str, Any]] = [{"name": "HOME", "value": CACHE}, {"name": "HF_HOME", "value": CACHE}]
    if model.token_secret is not None:
        environment.append(_of_secret("HF_TOKEN", model.token_secret.name, model.token_secret.key))
    if model.credentials_secret is not None and model.uri.startswith("s3://"):
        name = model.credentials_secret.name
        environment += [_of_secret(key, name, key) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
        environment.append(_of_secret("AWS_SESSION_TOKEN", name, "AWS_SESSION_TOKEN", optional=True))
    if model.endpoint is not None:
        environment.append({"name": _ENDPOINT_OF[model.uri.partition("://")[0]], "value": model.endpoint})
    if model.region is not None:
        environment.append({"name": "AWS_REGION", "value": model.region})
    if model.credentials_secret is not None and model.uri.startswith("oci://"):
        environment.append({"name": "DOCKER_CONFIG", "value": REGISTRY})
    return environment


def _of_secret(variable: str, secret: str, key: str, *, optional: bool = False) -> dict[str, Any]:
    reference = {"name": secret, "key": key} | ({"optional": True} if optional else {})
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def _resources(service: LLMService) -> dict[str, dict[str, str]]:
    """CPU is promised but not capped, since throttling costs latency even on an idle node; memory is both, so that a
    cache that is too large fails in its own pod and not in a neighbour's."""
    spec = service.spec
    requests = {"cpu": spec.resources.cpu, "memory": spec.resources.memory}
    limits = {"memory": spec.resources.memory}
    if spec.accelerator.type == "nvidia":
        requests[GPU] = limits[GPU] = str(spec.accelerator.count or 1)
    return {"requests": requests, "limits": limits}
