"""HTTPRoute (gateway.networking.k8s.io/v1): from a host name of a Gateway to the Service."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.api.routes import GatewaySpec
from octavo_operator.resources import metadata


def build(service: LLMService, gateway: GatewaySpec) -> dict[str, Any]:
    """Every field that the API server would fill in is said, so that what is applied is what is stored."""
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway.name}
    said = {"namespace": gateway.namespace, "sectionName": gateway.section_name}
    parent |= {key: value for key, value in said.items() if value is not None}
    backend = {"group": "", "kind": "Service", "name": service.name, "port": service.spec.endpoint.port, "weight": 1}
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        # An answer takes as long as it takes; many gateways else end it after 15 seconds.
        "timeouts": {"request": "0s"},
        "backendRefs": [backend],
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata.owned(service, service.name) | {"annotations": gateway.annotations},
        "spec": {"parentRefs": [parent], "hostnames": [gateway.hostname], "rules": [rule]},
    }
