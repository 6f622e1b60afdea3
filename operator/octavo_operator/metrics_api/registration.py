"""Leads the API server's aggregator to this operator: an APIService, unless somebody else serves the API already."""

import base64
from collections.abc import Mapping
from typing import Any, Protocol

from octavo_operator.kinds import API_SERVICE, OLDER_API_SERVICE
from octavo_operator.metrics_api.api import GROUP, VERSION
from octavo_operator.status.condition import condition_of, words

Object = dict[str, Any]

NAME, OLDER = str(API_SERVICE.only), str(OLDER_API_SERVICE.only)
PORT = 443  # of the Service


class Cluster(Protocol):
    """What this needs of a connection to the API server."""

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None: ...
    async def create(self, content: Object) -> None: ...
    async def merge(self, live: Object, content: Object) -> None: ...


async def register(cluster: Cluster, namespace: str, name: str, authority: bytes) -> str | None:
    """Make the APIService or put it right; why the API is not served by way of it, None where it is. `namespace`,
    `name`: of the Service; `authority`: what signs the certificate that it answers with, in PEM."""
    live, older = await cluster.get("APIService", None, NAME), await cluster.get("APIService", None, OLDER)
    for version, another in ((NAME, None if _leads_to(live, namespace, name) else live), (OLDER, older)):
        if another is not None:
            return (
                f"APIService {version} is {_owner(another)}: it serves the autoscalers' metrics in this cluster. Let "
                "it serve the engine's too, and set spec.autoscaling.provider: prometheus-adapter, or keda"
            )
    role = await cluster.get("ClusterRole", None, f"{namespace}-{name}")
    if role is None:
        return f"ClusterRole {namespace}-{name} of the chart is not there: run helm upgrade"
    wanted = _api_service(namespace, name, authority, role["metadata"])
    if live is None:
        await cluster.create(wanted)
        return "APIService is not available yet: it was just made"
    owners = live["metadata"].get("ownerReferences")
    if (
        live["spec"].get("caBundle") != wanted["spec"]["caBundle"]
        or owners != wanted["metadata"]["ownerReferences"]
        or live["spec"]["service"].get("port", PORT) != PORT
    ):
        owned = {"ownerReferences": wanted["metadata"]["ownerReferences"]}
        await cluster.merge(live, {"metadata": owned, "spec": wanted["spec"]})
    return _unavailable(live)


def _api_service(namespace: str, name: str, authority: bytes, role: Mapping[str, Any]) -> Object:
    """It goes with the chart's ClusterRole: one without a server behind it would keep namespaces from being deleted."""
    owner = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "name": role["name"],
        "uid": role["uid"],
    }
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {
            "name": NAME,
            "labels": {"app.kubernetes.io/managed-by": "octavo"},
            "ownerReferences": [owner],
        },
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "service": {"namespace": namespace, "name": name, "port": PORT},
            "caBundle": base64.b64encode(authority).decode(),
            "groupPriorityMinimum": 100,
            "versionPriority": 200,
        },
    }


def _leads_to(live: Object | None, namespace: str, name: str) -> bool:
    service = (live["spec"].get("service") if live is not None else None) or {}
    return (service.get("namespace"), service.get("name")) == (namespace, name)


def _owner(live: Object) -> str:
    service = live["spec"].get("service")
    return f"of Service {service['namespace']}/{service['name']}" if service else "the API server's own"


def _unavailable(live: Object) -> str | None:
    """Why the aggregator does not reach the Service, in its own words."""
    available = condition_of(live.get("status", {}), "Available")
    if available is None:
        return "the API server has not reached the operator's metrics API yet"
    if available["status"] == "True":
        return None
    return f"the API server does not reach the operator's metrics API: {words(available)}"
