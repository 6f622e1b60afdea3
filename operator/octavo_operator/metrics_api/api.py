"""custom.metrics.k8s.io/v1beta2 over HTTP: what there is (discovery), and the values of a metric, a pod each."""

import datetime
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from octavo_operator.api.quantities import milli
from octavo_operator.api.targets import TARGETS, named
from octavo_operator.metrics_api import front_proxy, label_selector
from octavo_operator.metrics_api.front_proxy import FrontProxy
from octavo_operator.scraping.readings import Reading, Readings, why

GROUP, VERSION = "custom.metrics.k8s.io", "v1beta2"
GROUP_VERSION = f"{GROUP}/{VERSION}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed"}
_VERSIONS = {"groupVersion": GROUP_VERSION, "version": VERSION}
_GROUP = {"name": GROUP, "versions": [_VERSIONS], "preferredVersion": _VERSIONS}
_RESOURCES = [
    {
        "name": f"pods/{target.name}",
        "singularName": "",
        "namespaced": True,
        "kind": "MetricValueList",
        "verbs": ["get"],
    }
    for target in TARGETS
]


def application(readings: Readings, trusted: FrontProxy) -> web.Application:
    """The API; it answers whom `trusted` vouches for, and nobody else."""
    made = web.Application(middlewares=[_guard(trusted)])
    made.router.add_get("/apis", _groups)
    made.router.add_get(f"/apis/{GROUP}", _group)
    made.router.add_get(f"/apis/{GROUP_VERSION}", _resources)

    async def values(request: web.Request) -> web.Response:
        return _values(readings, request)

    made.router.add_get(f"/apis/{GROUP_VERSION}/namespaces/{{namespace}}/pods/{{pod}}/{{metric}}", values)
    return made


def _guard(trusted: FrontProxy) -> Any:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        refused = front_proxy.refusal(trusted, certificate, request.headers)
        if refused is not None:
            return _failure(*refused)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _failure(error.status, f"{request.method} {request.path}: {error.reason.lower()}")

    return guard


async def _groups(_: web.Request) -> web.Response:
    return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]})


async def _group(_: web.Request) -> web.Response:
    return web.json_response({"kind": "APIGroup", "apiVersion": "v1"} | _GROUP)


async def _resources(_: web.Request) -> web.Response:
    return web.json_response(
        {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": _RESOURCES}
    )


def _values(readings: Readings, request: web.Request) -> web.Response:
    namespace, pod, name = (request.match_info[key] for key in ("namespace", "pod", "metric"))
    target = named(name)
    if target is None:
        return _failure(404, f"there is no metric {name}: there are {', '.join(target.name for target in TARGETS)}")
    if request.query.get("metricLabelSelector"):
        return _failure(400, "metricLabelSelector: there is one value of a metric for each pod, without labels")
    selector = request.query.get("labelSelector", "")
    try:
        selects = label_selector.parse(selector)
    except ValueError as error:
        return _failure(400, str(error))
    asked = [each for each in readings.of(namespace, target) if pod in ("*", each.pod) and selects(each.labels)]
    found = [each for each in asked if each.value is not None]
    if not found:
        whose = f"pods {selector or 'of any label'}" if pod == "*" else f"pod {pod}"
        asked_of = why(asked) if asked else "it is of no service whose targets have this metric"
        return _failure(404, f"{whose} in namespace {namespace} have no {name}: {asked_of}")
    return web.json_response(
        {
            "kind": "MetricValueList",
            "apiVersion": GROUP_VERSION,
            "metadata": {},
            "items": _items(namespace, name, found),
        }
    )


def _items(namespace: str, name: str, readings: Sequence[Reading]) -> list[dict[str, Any]]:
    items = []
    for reading in readings:
        item: dict[str, Any] = {
            "describedObject": {"kind": "Pod", "namespace": namespace, "name": reading.pod, "apiVersion": "v1"},
            "metric": {"name": name, "selector": None},
            "timestamp": datetime.datetime.fromtimestamp(reading.at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "value": milli(reading.value or 0.0),
        }
        if reading.window:
            item["windowSeconds"] = round(reading.window)
        items.append(item)
    return items


def _failure(code: int, message: str) -> web.Response:
    """An error as Kubernetes' API writes it."""
    content = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code, "InternalError"),
        "code": code,
    }
    return web.json_response(content, status=code)
