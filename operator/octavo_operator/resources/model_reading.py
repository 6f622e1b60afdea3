"""Job: reads what a model is, where and as the pods of its service would, and says it in its pod's termination message,
so that the operator knows before a pod of the service starts."""

import hashlib
import json
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata, pod_template
from octavo_operator.resources.overlay import merge
from octavo_operator.settings import Settings

Object = dict[str, Any]

# Tells these Jobs from others of a service.
LABEL = {"app.kubernetes.io/component": "model-reading"}

_DEADLINE = 600  # seconds
_KEPT = 600  # seconds; after a failure: then the Job goes, and the model is read anew

_OUTPUT = "/dev/termination-log"
# What decides where a pod may run, as whom, and what it can reach.
_OF_POD = (
    "affinity", "dnsConfig", "dnsPolicy", "hostAliases", "hostNetwork", "imagePullSecrets", "nodeSelector",
    "priorityClassName", "runtimeClassName", "schedulerName", "securityContext", "serviceAccountName", "tolerations",
    "volumes",
)  # fmt: skip
_OF_CONTAINER = ("name", "image", "imagePullPolicy", "env", "envFrom", "volumeMounts", "securityContext")
_OF_SOURCE = ("env", "envFrom", "volumeMounts")
_SERVERS_OWN = ("api-keys", "tls")  # volumes
_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}


def build(service: LLMService, settings: Settings, template: Object) -> Object:
    """`template`: of the service's pods."""
    pod, container = reader(template)
    container |= {
        "args": ["describe", pod_template.model(service), "--output", _OUTPUT],
        "resources": _RESOURCES,
        "terminationMessagePath": _OUTPUT,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    pod |= {
        "containers": [container],
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    # Nobody's selector is to take its pods for the service's.
    labels = (template.get("metadata") or {}).get("labels") or {}
    labels = {key: value for key, value in labels.items() if key not in metadata.labels(service)}
    owned = metadata.owned(service, f"{service.name}-model-{source(service, settings, template)}")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": merge(metadata.handed_down(service, settings), owned | {"labels": owned["labels"] | LABEL}),
        "spec": {
            "backoffLimit": 1,
            "activeDeadlineSeconds": _DEADLINE,
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def source(service: LLMService, settings: Settings, template: Object) -> str:
    """A digest of all that decides what is read."""
    pod, container = reader(template)
    uri = service.spec.model.uri
    image = service.spec.image or (settings.runtime_image if uri.startswith("file://") else None)
    parts = [uri, image, pod["volumes"], *(container.get(key) for key in _OF_SOURCE)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def reader(template: Object) -> tuple[Object, Object]:
    """Pod and container that reach what the service's pods reach."""
    engine = pod_template.engine_of(template)
    assert engine is not None, "the template has an engine"
    pod = {key: value for key, value in template["spec"].items() if key in _OF_POD}
    container = {key: value for key, value in engine.items() if key in _OF_CONTAINER}
    pod["volumes"] = [volume for volume in pod.get("volumes", []) if volume["name"] not in _SERVERS_OWN]
    mounts = container.get("volumeMounts", [])
    container["volumeMounts"] = [mount for mount in mounts if mount.get("name") not in _SERVERS_OWN]
    return pod, container
