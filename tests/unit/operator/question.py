"""A question to the webhook."""

from typing import Any


def asked(spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The API server's question of a new LLMService, as it asks it."""
    metadata = {"name": "chat", "namespace": "default", "uid": "u1"} | more.pop("metadata", {})
    body = {"apiVersion": "serving.octavo.dev/v1alpha1", "kind": "LLMService", "metadata": metadata, "spec": spec}
    request = {"uid": "q1", "operation": "CREATE", "namespace": "default", "object": body, "oldObject": None} | more
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
