"""Whether somebody leads clients from outside of the cluster to a service: what controllers say of its Ingress and of
its HTTPRoute."""

from collections.abc import Mapping
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.status.condition import Holding

Object = dict[str, Any]

KINDS = ("Ingress", "HTTPRoute")

ACCEPTED = "RouteAccepted"
PENDING = "RoutePending"
REFUSED = "RouteRefused"


def held(service: LLMService, standing: Mapping[str, Object | None]) -> Holding | None:
    """The condition Routed; None where no route is asked for. `standing`: the service's own routes, by kind."""
    endpoint = service.spec.endpoint
    found = []
    if endpoint.gateway is not None:
        found.append(_of_http_route(standing.get("HTTPRoute"), service.name))
    if endpoint.ingress is not None:
        found.append(_of_ingress(standing.get("Ingress"), service.name))
    if not found:
        return None
    worst = min(found, key=lambda holding: (False, None, True).index(holding[0]))
    return worst[0], worst[1], "; ".join(message for _, _, message in found)


def _of_ingress(ingress: Object | None, name: str) -> Holding:
    addresses = (ingress or {}).get("status", {}).get("loadBalancer", {}).get("ingress") or []
    said = [str(each.get("hostname") or each.get("ip")) for each in addresses]
    if said:
        return True, ACCEPTED, f"Ingress {name} is served at {', '.join(said)}"
    words = f"no controller has said an address of Ingress {name} yet: some never do; see that its class has one"
    return None, PENDING, words


def _of_http_route(route: Object | None, name: str) -> Holding:
    """Each parent says of the route whether it is accepted, and whether what it leads to was found."""
    parents = (route or {}).get("status", {}).get("parents") or []
    generation = (route or {}).get("metadata", {}).get("generation")
    conditions = [
        condition
        for parent in parents
        for condition in parent.get("conditions", [])
        if condition["type"] in ("Accepted", "ResolvedRefs")
        and condition.get("observedGeneration", generation) == generation
    ]
    for condition in conditions:
        if condition["status"] == "False":
            why = " ".join(f"{condition.get('reason', '')}: {condition.get('message', '')}".split())
            return False, REFUSED, f"the Gateway does not serve HTTPRoute {name}: {why}"
    if any(condition["type"] == "Accepted" and condition["status"] == "True" for condition in conditions):
        return True, ACCEPTED, f"the Gateway has taken HTTPRoute {name}"
    words = f"no Gateway has said anything of HTTPRoute {name} yet: see that the Gateway exists and has a controller"
    return None, PENDING, words
