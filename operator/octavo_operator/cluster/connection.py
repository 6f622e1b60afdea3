"""The connection to the API server."""

import datetime
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError
from kubernetes.aio.client import ApiClient, ApiException
from kubernetes.aio.dynamic import DynamicClient

from octavo_operator import kinds
from octavo_operator.api import KIND
from octavo_operator.cluster.managers import FIELD_MANAGER, REPAIR_MANAGER, REPLICAS_MANAGER
from octavo_operator.cluster.refusals import (
    Forbidden,
    Missing,
    Refused,
    Stale,
    Trouble,
    is_status,
    message,
    refusal,
    unanswered,
)
from octavo_operator.kinds import SERVICE_LABEL

Object = dict[str, Any]

_PAGE = 200  # nodes of an answer
NODES_HOLD = 5.0  # seconds that what was seen of nodes holds: all services ask for the same


@dataclass(frozen=True)
class Applied:
    """An object after it was applied; `change` is Created, Updated or None where it already was as wanted."""

    object: Object
    change: str | None


@dataclass(frozen=True)
class Event:
    """What `kubectl describe` shows of a change. `warning` marks what needs a person."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Reply:
    """What a pod answered through the API server. `first`, `seconds`: from the request to the first bytes of the body,
    and to its end."""

    status: int
    text: str
    first: float
    seconds: float


class Connection:
    """To the API server: reads and writes, each one request; objects are plain dicts as the API server writes them."""

    def __init__(self, api: ApiClient) -> None:
        # Where each kind is, is known, so the client needs no discovery (and no cache of it on disk).
        self._client = DynamicClient(api)
        self._nodes: dict[str, tuple[float, list[Object]]] = {}

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """The object, or None if there is none. `namespace`: None for what is of the cluster."""
        return await self._request("get", kinds.path(kind, namespace, name))

    async def services(self, namespace: str | None) -> list[Object] | None:
        """Every LLMService of a namespace, or of all; None if the API server does not know the kind."""
        found = await self._request("get", kinds.path(KIND, namespace))
        return None if found is None else list(found["items"])

    async def pods(self, namespace: str, service_name: str) -> list[Object]:
        """The pods of a service."""
        selector = f"{SERVICE_LABEL}={service_name}"
        found = await self._request("get", kinds.path("Pod", namespace), label_selector=selector)
        return list(found["items"]) if found else []

    async def events(self, kind: str, namespace: str, name: str) -> list[Object]:
        """Those of an object, oldest first."""
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        found = await self._request("get", kinds.path("Event", namespace), field_selector=selector, limit=50)
        events = list(found["items"]) if found else []
        return sorted(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    async def jobs(self, namespace: str, service_name: str) -> list[Object]:
        """The Jobs of a service."""
        selector = f"{SERVICE_LABEL}={service_name}"
        found = await self._request("get", kinds.path("Job", namespace), label_selector=selector)
        return [{"apiVersion": "batch/v1", "kind": "Job"} | item for item in found["items"]] if found else []

    async def job_pods(self, namespace: str, job: str) -> list[Object]:
        """The pods of a Job."""
        selector = f"batch.kubernetes.io/job-name={job}"
        found = await self._request("get", kinds.path("Pod", namespace), label_selector=selector)
        return list(found["items"]) if found else []

    async def nodes(self, selector: str) -> list[Object]:
        """The nodes whose labels `selector` picks, as of the last five seconds; of each its labels and taints alone,
        since the rest of a node is long."""
        since, found = self._nodes.get(selector, (-NODES_HOLD, []))
        now = time.monotonic()
        if now - since < NODES_HOLD:
            return found
        found, after = [], ""
        while True:
            page = await self._request(
                "get", kinds.path("Node", None), label_selector=selector, limit=_PAGE, _continue=after
            )
            found += [_placement(node) for node in (page or {}).get("items", [])]
            after = (page or {}).get("metadata", {}).get("continue", "")
            if not after:
                self._nodes[selector] = now, found
                return found

    async def autoscalers(self, namespace: str) -> list[Object]:
        """Every HorizontalPodAutoscaler of a namespace, whoever made it."""
        found = await self._request("get", kinds.path("HorizontalPodAutoscaler", namespace))
        return list(found["items"]) if found else []

    async def workloads(self, namespace: str | None) -> list[Object]:
        """Every Deployment and LeaderWorkerSet of a service in a namespace, or in all; a chart of an earlier version
        gives no right to the latter."""
        found = []
        for kind in ("Deployment", "LeaderWorkerSet"):
            try:
                listed = await self._request("get", kinds.path(kind, namespace), label_selector=SERVICE_LABEL)
            except Forbidden:
                if kind == "Deployment":
                    raise
                continue
            found += [{"kind": kind} | item for item in (listed or {}).get("items", [])]
        return found

    async def read(self, path: str, **query: str) -> Object | None:
        """An object, or a list of them, by its path in the API; None for 404, as for a kind that is not installed."""
        return await self._request("get", path, query_params=list(query.items()))

    async def metadata(self, path: str) -> Object | None:
        """The metadata of an object alone: what a Secret holds does not leave the API server."""
        accept = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
        return await self._request("get", path, header_params=accept)

    async def text(self, path: str, **query: str) -> str | None:
        """Text, such as a log; None for 404."""
        try:
            answer = await self._answer("get", path, query_params=list(query.items()), header_params={"Accept": "*/*"})
            found: str = await answer.text(errors="replace")
        except Missing:
            return None
        except (OSError, TimeoutError, ClientError) as error:
            raise unanswered(error) from None
        return found

    async def ask(
        self, path: str, body: Object | None = None, headers: Mapping[str, str] | None = None, *, limit: float = 60
    ) -> Reply:
        """Asks a pod or a Service by the API server's proxy, with POST where there is a body. `limit`: seconds. Raises
        Forbidden, or Trouble where nobody answers."""
        start = time.monotonic()
        sent = {"Accept": "*/*", **(headers or {})}
        method = "get" if body is None else "post"
        try:
            answer = await self._client.request(
                method, path, serialize=False, body=body, header_params=sent, _request_timeout=limit
            )
            first, parts = None, []
            async for part in answer.content.iter_any():
                first = first or time.monotonic()
                parts.append(part)
        except ApiException as error:
            if not is_status(error.body):
                passed = time.monotonic() - start
                return Reply(int(error.status), _decoded(error.body), passed, passed)
            if error.status == 403:
                raise Forbidden(message(error)) from None
            raise Trouble(message(error)) from None
        except (OSError, TimeoutError, ClientError) as error:
            raise unanswered(error) from None
        end = time.monotonic()
        text = b"".join(parts).decode("utf-8", errors="replace")
        return Reply(answer.status, text, (first or end) - start, end - start)

    async def repair(self, live: Object, content: Object) -> None:
        """Replace top-level fields of this very version of an object, as in {"spec": {...}}."""
        metadata = live["metadata"]
        lock = {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
        replaced = [{"op": "replace", "path": f"/{key}", "value": value} for key, value in content.items()]
        await self._request(
            "patch",
            kinds.path(live["kind"], metadata["namespace"], metadata["name"]),
            body=[lock, *replaced],
            content_type="application/json-patch+json",
            field_manager=REPAIR_MANAGER,
        )

    async def apply(self, desired: Object, live: Object | None) -> Applied:
        """Server-side apply. Only an object that was seen (`live`, and owned) is taken by force, and only that very
        object: one of another's making that appeared meanwhile is a Stale, not ours to change."""
        metadata = dict(desired["metadata"])
        if live is not None:
            metadata["uid"] = live["metadata"]["uid"]
        after = await self._request(
            "patch",
            kinds.path(desired["kind"], metadata["namespace"], metadata["name"]),
            body=desired | {"metadata": metadata},
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            force_conflicts=live is not None,
        )
        if after is None and live is None and (product := kinds.product(desired["kind"])):
            raise Refused(f"the API server does not know {desired['apiVersion']}: install {product}")
        if after is None:
            raise Stale(f"{desired['kind']} {metadata['name']} is gone")
        if live is None:
            return Applied(after, "Created")
        same = live["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        return Applied(after, None if same else "Updated")

    async def hand_over_replicas(self, workload: Object, replicas: int) -> None:
        """Make another manager an owner of spec.replicas: server-side apply would reset it to 1 if its only owner
        left it out."""
        metadata = workload["metadata"]
        await self._request(
            "patch",
            kinds.path(workload["kind"], metadata["namespace"], metadata["name"]),
            body={
                "apiVersion": workload["apiVersion"],
                "kind": workload["kind"],
                "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
                "spec": {"replicas": replicas},
            },
            content_type="application/apply-patch+yaml",
            field_manager=REPLICAS_MANAGER,
            force_conflicts=True,
        )

    async def create(self, content: Object) -> None:
        """Make an object that is not there; Stale if it is by now."""
        path = kinds.path(content["kind"], content["metadata"].get("namespace"))
        await self._request("post", path, body=content, field_manager=FIELD_MANAGER)

    async def merge(self, live: Object, content: Object) -> None:
        """Merge fields into this very version of an object; None removes one."""
        metadata = live["metadata"]
        version = {key: metadata[key] for key in ("uid", "resourceVersion")}
        done = await self._request(
            "patch",
            kinds.path(live["kind"], metadata.get("namespace"), metadata["name"]),
            body=content | {"metadata": content.get("metadata", {}) | version},
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )
        if done is None:
            raise Stale(f"{live['kind']} {metadata['name']} is gone")

    async def delete(self, live: Object) -> None:
        """Delete this very object, and what it owns; it may already be gone. Unless it is said, the API server leaves
        the pods of a Job behind, and where there is a body it does not look at parameters."""
        metadata = live["metadata"]
        await self._request(
            "delete",
            kinds.path(live["kind"], metadata["namespace"], metadata["name"]),
            body={"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"},
        )

    async def write_status(self, service: Object, status: Object) -> None:
        """Replace the status of an LLMService; nothing happens if it is gone. By a merge: a field that an older
        definition of LLMService does not have is left out, where server-side apply would refuse the whole status."""
        former = service.get("status", {})
        metadata = service["metadata"]
        await self._request(
            "patch",
            kinds.path(KIND, metadata["namespace"], metadata["name"]) + "/status",
            body={
                "metadata": {"uid": metadata["uid"]},
                "status": _replacing(former, status),
            },
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )

    async def record(self, service: Object, event: Event) -> None:
        """Record an event on an LLMService; the same event again counts up the event that is there."""
        metadata = service["metadata"]
        digest = hashlib.sha256(f"{metadata['uid']}/{event.reason}/{event.message}".encode()).hexdigest()[:16]
        name = f"{metadata['name']}.{digest}"
        path = kinds.path("Event", metadata["namespace"], name)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:  # most are new
            await self._request(
                "post",
                kinds.path("Event", metadata["namespace"]),
                body={
                    "apiVersion": "v1",
                    "kind": "Event",
                    "metadata": {"namespace": metadata["namespace"], "name": name},
                    "involvedObject": {
                        "apiVersion": service["apiVersion"],
                        "kind": KIND,
                        "namespace": metadata["namespace"],
                        "name": metadata["name"],
                        "uid": metadata["uid"],
                    },
                    "type": "Warning" if event.warning else "Normal",
                    "reason": event.reason,
                    "message": event.message[:1024],
                    "count": 1,
                    "firstTimestamp": now,
                    "lastTimestamp": now,
                    "source": {"component": FIELD_MANAGER},
                },
                field_manager=FIELD_MANAGER,
            )
        except Stale:
            known = await self._request("get", path)
            again = {"count": (known or {}).get("count", 1) + 1, "lastTimestamp": now}
            await self._request("patch", path, body=again, content_type="application/merge-patch+json")

    async def _request(self, method: str, path: str, **parameters: Any) -> Object | None:
        """The answer's object, None for 404; raises what `refusals` makes of others."""
        try:
            answer = await self._answer(method, path, **parameters)
            found: Object = await answer.json()
        except Missing:
            return None
        except (OSError, TimeoutError, ClientError) as error:
            raise unanswered(error) from None
        return found

    async def _answer(self, method: str, path: str, **parameters: Any) -> Any:
        try:
            return await self._client.request(method, path, serialize=False, _request_timeout=30, **parameters)
        except ApiException as error:
            if error.status == 404 and method != "post":
                raise Missing from None
            raise refusal(error) from None


def _placement(node: Object) -> Object:
    labels = node["metadata"].get("labels", {})
    return {"metadata": {"labels": labels}, "spec": {"taints": node["spec"].get("taints", [])}}


def _replacing(former: Object, wanted: Object) -> Object:
    """A merge patch that makes one object of the other: None removes a field."""
    patch = dict.fromkeys(former.keys() - wanted.keys()) | wanted
    nested = [key for key in wanted if isinstance(wanted[key], dict) and isinstance(former.get(key), dict)]
    return patch | {key: _replacing(former[key], wanted[key]) for key in nested}


def _decoded(body: object) -> str:
    return body.decode("utf-8", errors="replace") if isinstance(body, bytes) else str(body or "")
