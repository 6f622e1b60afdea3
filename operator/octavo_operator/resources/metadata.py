"""Names, labels and ownership that all owned objects share."""

from collections.abc import Mapping, Sequence
from typing import Any

from octavo_operator.api import API_VERSION, KIND, LLMService
from octavo_operator.kinds import SERVICE_LABEL
from octavo_operator.settings import Settings


def selector(service_name: str) -> dict[str, str]:
    """Labels that select a service's pods; a Deployment's selector can never change, so they never do."""
    return {SERVICE_LABEL: service_name}


def labels(service: LLMService) -> dict[str, str]:
    return selector(service.name) | {
        "app.kubernetes.io/name": "llmservice",
        "app.kubernetes.io/instance": service.name,
        "app.kubernetes.io/managed-by": "octavo",
    }


def handed_down(service: LLMService, settings: Settings) -> dict[str, dict[str, str]]:
    """The service's own labels and annotations that its objects and pods get too, as metadata."""
    return {
        "labels": _chosen(service.labels, settings.propagate_labels),
        "annotations": _chosen(service.annotations, settings.propagate_annotations),
    }


def _chosen(all_: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    prefixes = tuple(key for key in keys if key.endswith("/"))
    return {key: value for key, value in all_.items() if key in keys or key.startswith(prefixes)}


def owned(service: LLMService, name: str) -> dict[str, Any]:
    """Metadata of an object that goes when the service goes."""
    return {
        "namespace": service.namespace,
        "name": name,
        "labels": labels(service),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": service.name,
                "uid": service.uid,
                "controller": True,
            }
        ],
    }


def owns(uid: str, live: Mapping[str, Any]) -> bool:
    """Whether an object belongs to the LLMService of this uid."""
    return any(owner["uid"] == uid for owner in live["metadata"].get("ownerReferences", []))
