"""The pod of a Job that reads or downloads a model: it runs where, as whom and with what the service's pods do, and
says what came of it in its termination message."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata, pod_template

Object = dict[str, Any]

OUTPUT = "/dev/termination-log"

# What decides where a pod may run, as whom, and what it can reach.
_OF_POD = (
    "affinity", "dnsConfig", "dnsPolicy", "hostAliases", "hostNetwork", "imagePullSecrets", "nodeSelector",
    "priorityClassName", "runtimeClassName", "schedulerName", "securityContext", "serviceAccountName", "tolerations",
    "volumes",
)  # fmt: skip
_OF_CONTAINER = ("name", "image", "imagePullPolicy", "env", "envFrom", "volumeMounts", "securityContext")
_SERVERS_OWN = ("api-keys", "tls")  # volumes
# A quota may want these said of every container: who sets them for the engine has set them for this.
_AS_THE_ENGINE = ("cpu", "ephemeral-storage")
_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}


def pod_and_container(template: Object) -> tuple[Object, Object]:
    """Its spec and its one container, which lacks arguments and is not in the spec. `template`: of the service's
    pods."""
    engine = pod_template.engine_of(template)
    assert engine is not None, "the template has an engine"
    pod = {key: value for key, value in template["spec"].items() if key in _OF_POD}
    pod["volumes"] = [volume for volume in pod.get("volumes", []) if volume["name"] not in _SERVERS_OWN]
    container = {key: value for key, value in engine.items() if key in _OF_CONTAINER}
    mounts = container.get("volumeMounts", [])
    container["volumeMounts"] = [mount for mount in mounts if mount.get("name") not in _SERVERS_OWN]
    return (
        pod | {"automountServiceAccountToken": False, "enableServiceLinks": False},
        container
        | {
            "resources": _resources(engine),
            "terminationMessagePath": OUTPUT,
            "terminationMessagePolicy": "FallbackToLogsOnError",
        },
    )


def _resources(engine: Object) -> Object:
    asked = engine.get("resources") or {}
    taken = {
        kind: {name: value for name, value in asked.get(kind, {}).items() if name in _AS_THE_ENGINE} for kind in asked
    }
    return {kind: taken.get(kind, {}) | own for kind, own in _RESOURCES.items()}


def labels(service: LLMService, template: Object) -> dict[str, str]:
    """Its labels: those of the service's pods, but for what a selector may take it for one of them by."""
    found = (template.get("metadata") or {}).get("labels") or {}
    return {key: value for key, value in found.items() if key not in metadata.labels(service)}
