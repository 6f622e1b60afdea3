"""One pure builder per kind of owned object."""

from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.resources import (
    dashboard,
    horizontal_pod_autoscaler,
    http_route,
    ingress,
    metadata,
    network_policy,
    pod_disruption_budget,
    scaled_object,
    service_account,
    workload,
)
from octavo_operator.resources import service as service_resource
from octavo_operator.resources.check import check as check
from octavo_operator.resources.overlay import merge
from octavo_operator.resources.replicas import FRESH, Replicas
from octavo_operator.settings import Settings


def build(
    service: LLMService, settings: Settings, replicas: Replicas = FRESH, *, makes_room: bool = False
) -> list[dict[str, Any]]:
    """Every object that the service is to own now, in the order in which they are applied. `replicas`: as
    they are and as they are to be; `makes_room`: see deployment."""
    objects = [service_account.build(service)]
    if service.spec.observability.dashboard:
        objects.append(dashboard.build(service))
    if network_policy.is_wanted(service):
        objects.append(network_policy.build(service, settings))
    objects += [
        service_resource.build(service),
        pod_disruption_budget.build(service),
        workload.build(service, settings, replicas, makes_room=makes_room),
    ]
    autoscaling = None if service.spec.suspend else service.spec.autoscaling
    if autoscaling is not None and autoscaling.provider == "keda":
        objects.append(scaled_object.build(service, autoscaling, settings.prometheus_url))
    elif autoscaling is not None:
        objects.append(horizontal_pod_autoscaler.build(service, autoscaling))
    endpoint = service.spec.endpoint
    if endpoint.ingress is not None:
        objects.append(ingress.build(service, endpoint.ingress))
    if endpoint.gateway is not None:
        objects.append(http_route.build(service, endpoint.gateway))
    handed_down = metadata.handed_down(service, settings)
    return [item | {"metadata": merge(handed_down, item["metadata"])} for item in objects]
