"""Reads a cluster into Evidence, with the rights of whoever asks: what may not be read is named, the rest goes on."""

import asyncio
import re
import time
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from octavo_operator import kinds
from octavo_operator.api import API_VERSION, KIND, InvalidSpec, LLMService, parse
from octavo_operator.cluster import Connection, Forbidden, Refused, Reply, Trouble
from octavo_operator.commands.evidence import DASHBOARDS, NO_LOGS, NO_METRICS, Evidence, Log, Object, state
from octavo_operator.kinds import SERVICE_LABEL
from octavo_operator.resources.leader_worker_set import leads
from octavo_operator.resources.pod_template import CONTAINER, PORT
from octavo_runtime.protocol import metrics
from octavo_runtime.top.sample import Sample
from octavo_runtime.top.sample import parse as parse_metrics

# What watches a service may stand in any namespace, such as the chart's: path, and what to look for.
_WATCHING: dict[str, tuple[str, dict[str, str]]] = {
    "PodMonitor": ("/apis/monitoring.coreos.com/v1/podmonitors", {}),
    "ServiceMonitor": ("/apis/monitoring.coreos.com/v1/servicemonitors", {}),
    "PrometheusRule": ("/apis/monitoring.coreos.com/v1/prometheusrules", {}),
    DASHBOARDS: ("/api/v1/configmaps", {"labelSelector": "grafana_dashboard"}),
}
_EVENTS = "5000"  # at most; an API server keeps those of an hour
_LOG_LINES = 50
_ASK_SECONDS = 15.0

Found = TypeVar("Found")


class NoService(RuntimeError):
    """There is no such LLMService, or it cannot be read; one line."""


async def gather(
    cluster: Connection,
    namespace: str,
    name: str,
    seconds: float,
    *,
    surroundings: bool = False,
    api_key: str = "",
    log_lines: int = _LOG_LINES,
) -> Evidence:
    """All that is known of an LLMService, with its pods' metrics looked at twice, `seconds` apart. Raises NoService,
    and Trouble where the API server does not answer."""
    now = datetime.now(UTC)
    try:
        body = await cluster.read(kinds.path(KIND, namespace, name))
    except Forbidden as error:
        raise NoService(f"llmservice {name}: {missing_right(error)}") from None
    if body is None:
        raise NoService(f"no LLMService {name!r} in namespace {namespace!r}, or the cluster has no Octavo")
    unread: dict[str, str] = {}
    selector = f"{SERVICE_LABEL}={name}"
    pods = await _or_unread(unread, "Pod", _items(cluster, "Pod", namespace, labelSelector=selector)) or []
    first, owned, events, logs = await asyncio.gather(
        _look(cluster, unread, pods, api_key),
        _owned(cluster, unread, namespace, name),
        _or_unread(unread, "Event", _items(cluster, "Event", namespace, limit=_EVENTS)),
        _logs(cluster, unread, pods, log_lines),
    )
    around = await _surroundings(cluster, unread, namespace, body) if surroundings else {}
    second = first
    if seconds and first:
        await asyncio.sleep(seconds)
        second = await _look(cluster, unread, pods, api_key)
    return Evidence(
        body=body | {"apiVersion": API_VERSION, "kind": KIND},
        service=_parsed(body),
        now=now,
        owned=owned,
        pods=pods,
        events=_by_object(events or [], name, pods),
        logs=logs,
        samples={pod: (first[pod], second[pod]) for pod in first.keys() & second.keys()},
        unread=unread,
        **around,
    )


def missing_right(error: Forbidden) -> str:
    """The right that the API server missed, in RBAC's words; else its own words."""
    match = re.search(r'cannot (\w+) resource "([^"]+)"(?: in API group "([^"]*)")?', str(error))
    if match is None:
        return str(error)
    group = f".{match[3]}" if match[3] else ""
    return f"missing right: {match[1]} {match[2]}{group}"


def through_pod(pod: Object, path: str) -> str:
    """Where the API server passes a request on to a pod, as the pod's annotations say."""
    told = pod["metadata"].get("annotations") or {}
    scheme, port = told.get("prometheus.io/scheme", "http"), told.get("prometheus.io/port", PORT)
    target = f"{'https:' if scheme == 'https' else ''}{pod['metadata']['name']}:{port}"
    return f"{kinds.path('Pod', pod['metadata']['namespace'], target)}/proxy{path}"


async def _or_unread(unread: dict[str, str], what: str, reading: Awaitable[Found]) -> Found | None:
    """What was read; None, with a note of why, where it cannot be."""
    try:
        return await reading
    except Forbidden as error:
        unread[what] = missing_right(error)
    except (Refused, Trouble) as error:
        unread[what] = str(error)
    return None


async def _items(cluster: Connection, kind: str, namespace: str, **query: str) -> list[Object] | None:
    found = await cluster.read(kinds.path(kind, namespace), **query)
    return None if found is None else list(found["items"])


async def _owned(cluster: Connection, unread: dict[str, str], namespace: str, service: str) -> dict[str, Object]:
    owned = kinds.owned(service)
    readings = (_or_unread(unread, kind, cluster.read(kinds.path(kind, namespace, name))) for kind, name in owned)
    found = await asyncio.gather(*readings)
    return {kind: each for (kind, _), each in zip(owned, found, strict=True) if each is not None}


async def _surroundings(cluster: Connection, unread: dict[str, str], namespace: str, body: Object) -> dict[str, Any]:
    lists, secrets, own = await asyncio.gather(
        _lists(cluster, unread, namespace),
        _secrets(cluster, unread, namespace, body),
        _or_unread(unread, "Namespace", cluster.read(f"/api/v1/namespaces/{namespace}")),
    )
    return {"lists": lists, "secrets": secrets, "labels": (own or {}).get("metadata", {}).get("labels") or {}}


async def _lists(cluster: Connection, unread: dict[str, str], namespace: str) -> dict[str, list[Object]]:
    async def watching(kind: str) -> list[Object] | None:
        """In all namespaces, or in the service's own where only that may be read."""
        path, query = _WATCHING[kind]
        try:
            found = await cluster.read(path, **query)
        except Forbidden as error:
            unread[f"{kind} of other namespaces"] = missing_right(error)
            group, _, plural = path.rpartition("/")
            found = await cluster.read(f"{group}/namespaces/{namespace}/{plural}", **query)
        return None if found is None else list(found["items"])

    readings = {kind: watching(kind) for kind in _WATCHING}
    readings["NetworkPolicy"] = _items(cluster, "NetworkPolicy", namespace)
    found = await asyncio.gather(*(_or_unread(unread, kind, reading) for kind, reading in readings.items()))
    return {kind: each for kind, each in zip(readings, found, strict=True) if each is not None}


async def _secrets(cluster: Connection, unread: dict[str, str], namespace: str, body: Object) -> dict[str, bool]:
    spec = body.get("spec", {})
    endpoint = spec.get("endpoint", {})
    named = (spec.get("model", {}).get("tokenSecret"), endpoint.get("apiKeysSecret"), endpoint.get("tlsSecret"))
    names = sorted({secret["name"] for secret in named if secret})

    async def exists(name: str) -> bool:
        return await cluster.metadata(kinds.path("Secret", namespace, name)) is not None

    found = await asyncio.gather(*(_or_unread(unread, "Secret", exists(name)) for name in names))
    return {name: there for name, there in zip(names, found, strict=True) if there is not None}


async def _logs(cluster: Connection, unread: dict[str, str], pods: list[Object], lines: int) -> dict[str, Log]:
    async def read(pod: Object) -> Log:
        metadata = pod["metadata"]
        path = f"{kinds.path('Pod', metadata['namespace'], metadata['name'])}/log"
        texts = []
        for previous in ("false", "true"):
            try:
                texts.append(await cluster.text(path, container=CONTAINER, tailLines=str(lines), previous=previous))
            except Forbidden:
                raise
            except Refused:  # there was no container before this one, or there is none yet
                texts.append(None)
        return Log(texts[0] or "", texts[1] or "")

    found = await asyncio.gather(*(_or_unread(unread, NO_LOGS, read(pod)) for pod in pods))
    return {pod["metadata"]["name"]: log for pod, log in zip(pods, found, strict=True) if log is not None}


async def _look(cluster: Connection, unread: dict[str, str], pods: list[Object], api_key: str) -> dict[str, Sample]:
    """One look at the metrics of each pod that runs."""

    async def look(pod: Object) -> Sample:
        path = (pod["metadata"].get("annotations") or {}).get("prometheus.io/path", "/metrics")
        headers = {"x-api-key": api_key} if api_key else {}
        reply: Reply = await cluster.ask(through_pod(pod, path), headers=headers, limit=_ASK_SECONDS)
        if reply.status in (401, 403):
            raise Trouble("the metrics ask for a key: --api-key")
        if reply.status != 200:
            raise Trouble(f"pod {pod['metadata']['name']} answers on {path} with HTTP status {reply.status}")
        series = parse_metrics(reply.text)
        if metrics.REQUESTS_RUNNING.name not in series:
            raise Trouble(f"pod {pod['metadata']['name']} tells no metrics of Octavo yet")
        return Sample(time.monotonic(), "", series)

    async def safely(pod: Object) -> Sample | None:
        try:
            return await _or_unread(unread, NO_METRICS, look(pod))
        except ValueError:
            unread[NO_METRICS] = f"pod {pod['metadata']['name']} tells what are no metrics"
            return None

    running = [pod for pod in pods if leads(pod) and "running" in state(pod).get("state", {})]
    found = await asyncio.gather(*map(safely, running))
    return {pod["metadata"]["name"]: look for pod, look in zip(running, found, strict=True) if look is not None}


def _by_object(events: list[Object], name: str, pods: list[Object]) -> Mapping[tuple[str, str], list[Object]]:
    """The events that concern the service: its own name, its pods' and their owners'."""
    names = {name} | {pod["metadata"]["name"] for pod in pods}
    names |= {owner["name"] for pod in pods for owner in pod["metadata"].get("ownerReferences", [])}
    found: dict[tuple[str, str], list[Object]] = {}
    for event in sorted(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or ""):
        of = event["involvedObject"]
        if of.get("name") in names:
            found.setdefault((of.get("kind", ""), of["name"]), []).append(event)
    return found


def _parsed(body: Object) -> LLMService | None:
    try:
        return parse(body)
    except InvalidSpec:
        return None
