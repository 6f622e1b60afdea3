"""PersistentVolumeClaim: a service's own cache of models."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import metadata
from octavo_operator.resources.overlay import merge
from octavo_operator.settings import Settings

SUFFIX = "-model-cache"


def name(service: LLMService) -> str:
    """Of the claim that a service's cache is on, whoever made it."""
    cache = service.spec.model.cache
    assert cache is not None, "the service has a cache"
    return cache.claim_name or f"{service.name}{SUFFIX}"


def build(service: LLMService, settings: Settings) -> dict[str, Any] | None:
    """The claim that is to be made; None where the spec names one that is there."""
    cache = service.spec.model.cache
    if cache is None or cache.claim_name is not None:
        return None
    spec: dict[str, Any] = {
        "accessModes": [cache.access_mode or "ReadWriteOnce"],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": merge(metadata.handed_down(service, settings), metadata.owned(service, name(service))),
        "spec": spec,
    }
