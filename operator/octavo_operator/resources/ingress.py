"""Ingress: from a host name outside of the cluster to the Service."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.api.routes import IngressSpec
from octavo_operator.resources import metadata


def build(service: LLMService, ingress: IngressSpec) -> dict[str, Any]:
    backend = {"service": {"name": service.name, "port": {"name": "http"}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec: dict[str, Any] = {"rules": [{"host": ingress.host, "http": {"paths": [path]}}]}
    if ingress.class_name is not None:
        spec["ingressClassName"] = ingress.class_name
    if ingress.tls_secret is not None:
        spec["tls"] = [{"hosts": [ingress.host], "secretName": ingress.tls_secret.name}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata.owned(service, service.name) | {"annotations": ingress.annotations},
        "spec": spec,
    }
