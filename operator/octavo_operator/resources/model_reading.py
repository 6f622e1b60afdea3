"""Job: reads what a model is, where and as the pods of its service would, and says it in its pod's termination message,
so that the operator knows before a pod of the service starts."""

import hashlib
import json
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata, model_job, pod_template
from octavo_operator.resources.overlay import merge
from octavo_operator.settings import Settings

Object = dict[str, Any]

# Tells these Jobs from others of a service.
LABEL = {"app.kubernetes.io/component": "model-reading"}

_DEADLINE = 600  # seconds
_KEPT = 600  # seconds; after a failure: then the Job goes, and the model is read anew

_OF_SOURCE = ("env", "envFrom", "volumeMounts")


def build(service: LLMService, settings: Settings, template: Object) -> Object:
    """`template`: of the service's pods."""
    pod, container = model_job.pod_and_container(template)
    container["args"] = ["describe", pod_template.model(service), "--output", model_job.OUTPUT]
    pod |= {"containers": [container], "restartPolicy": "Never"}
    owned = metadata.owned(service, f"{service.name}-model-{source(service, settings, template)}")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": merge(metadata.handed_down(service, settings), owned | {"labels": owned["labels"] | LABEL}),
        "spec": {
            "backoffLimit": 1,
            "activeDeadlineSeconds": _DEADLINE,
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": model_job.labels(service, template)}, "spec": pod},
        },
    }


def source(service: LLMService, settings: Settings, template: Object) -> str:
    """A digest of all that decides what is read."""
    pod, container = model_job.pod_and_container(template)
    uri = service.spec.model.uri
    image = service.spec.image or (settings.runtime_image if uri.startswith("file://") else None)
    parts = [uri, image, pod["volumes"], *(container.get(key) for key in _OF_SOURCE)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]
