"""Job: downloads a model to its cache, once for all services of a namespace that ask for the same from the same, and
says what came of it in its pod's termination message."""

import hashlib
import json
from typing import Any

from octavo_operator.api import GROUP, LLMService
from octavo_operator.resources import cache_claim, metadata, model_job, pod_template
from octavo_operator.resources.overlay import merge
from octavo_operator.settings import Settings

Object = dict[str, Any]

# On these Jobs: the digest of source and cache. Whoever watches wakes all services of the namespace.
CACHE_LABEL = f"{GROUP}/model-cache"
PROGRESS_PORT = 8001

_KEPT = 300  # seconds, for services that come meanwhile; what it downloaded is found in the cache after that
# Kubelet restarts what fails, with pauses of up to five minutes: what a person mends goes on by itself.
_TRIES = 2**31 - 1


def name(service: LLMService, template: Object) -> str:
    """Of the Job that downloads a service's model."""
    return f"octavo-model-{source(service, template)}"


def build(service: LLMService, settings: Settings, template: Object) -> Object:
    """`template`: of the service's pods; the Job's pod runs where, as whom and with what they do."""
    pod, container = model_job.pod_and_container(template)
    uri = service.spec.model.uri
    container |= {
        "args": [
            "download", uri, "--to", pod_template.MODELS, "--result", model_job.OUTPUT,
            "--progress-port", str(PROGRESS_PORT),
        ],
        "volumeMounts": [_writable(mount) for mount in container["volumeMounts"]],
    }  # fmt: skip
    pod |= {"containers": [container], "restartPolicy": "OnFailure"}
    owned = metadata.owned(service, name(service, template))
    mark = {CACHE_LABEL: source(service, template)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": merge(metadata.handed_down(service, settings), owned | {"labels": owned["labels"] | mark}),
        "spec": {
            "backoffLimit": _TRIES,
            "ttlSecondsAfterFinished": _KEPT,
            "template": {"metadata": {"labels": model_job.labels(service, template) | mark}, "spec": pod},
        },
    }


def source(service: LLMService, template: Object) -> str:
    """A digest of all that decides what is downloaded, and to where."""
    _, container = model_job.pod_and_container(template)
    model = service.spec.model.model_dump(
        mode="json", include={"uri", "token_secret", "credentials_secret", "endpoint", "region"}
    )
    parts = [model, cache_claim.name(service), container.get("env"), container.get("envFrom")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


def _writable(mount: Object) -> Object:
    if mount.get("name") != pod_template.MODEL_VOLUME:
        return mount
    return {key: value for key, value in mount.items() if key != "readOnly"}
