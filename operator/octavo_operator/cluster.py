"""What the operator asks of the API server. The only module that imports the Kubernetes client."""

import datetime
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, ApiException
from kubernetes.aio.dynamic import DynamicClient, Resource

from octavo_operator.api import KIND
from octavo_operator.kinds import ALL_KINDS, SERVICE_LABEL

FIELD_MANAGER = "octavo"
# Takes away what others wrote into owned objects. Not FIELD_MANAGER: what it writes there for a moment is to be told
# from what is wanted, and goes as all else that is another's.
REPAIR_MANAGER = "octavo-repair"
# Holds spec.replicas of an autoscaled Deployment between the operator, which lets go of it, and the autoscaler.
REPLICAS_MANAGER = "octavo-autoscaling"

Object = dict[str, Any]


class Refused(RuntimeError):
    """The API server will not take an object as it is; one line that says why."""


class Forbidden(Refused):
    """A quota, a policy or a missing right forbids it: the object itself may be sound."""


class Trouble(RuntimeError):
    """The API server did not do as asked, or gave no answer; one line that says why."""


class Stale(RuntimeError):
    """The world changed between reading and writing; look again."""


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


class Connection:
    """To the API server: reads and writes, each one request; objects are plain dicts as the API server writes them."""

    def __init__(self, api: ApiClient) -> None:
        # The kinds are known, so the client needs no discovery (and no cache of it on disk).
        self._client = DynamicClient(api)
        self._resources = {
            kind.name: Resource(
                prefix="apis" if kind.group else "api",
                group=kind.group,
                api_version=kind.version,
                kind=kind.name,
                name=kind.plural,
                namespaced=True,
                client=self._client,
            )
            for kind in ALL_KINDS
        }
        self._products = {kind.name: kind.product for kind in ALL_KINDS if kind.product}

    async def get(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """The object, or None if there is none. `namespace`: None for what is of the cluster."""
        return await self._request("get", self._path(kind, namespace, name))

    async def services(self, namespace: str | None) -> list[Object] | None:
        """Every LLMService of a namespace, or of all; None if the API server does not know the kind."""
        found = await self._request("get", self._path(KIND, namespace))
        return None if found is None else list(found["items"])

    async def pods(self, namespace: str, service_name: str) -> list[Object]:
        """The pods of a service."""
        selector = f"{SERVICE_LABEL}={service_name}"
        found = await self._request("get", self._path("Pod", namespace), label_selector=selector)
        return list(found["items"]) if found else []

    async def pod_events(self, namespace: str, pod: str) -> list[Object]:
        """The events of a pod, oldest first."""
        selector = f"involvedObject.kind=Pod,involvedObject.name={pod}"
        found = await self._request("get", self._path("Event", namespace), field_selector=selector, limit=50)
        events = list(found["items"]) if found else []
        return sorted(events, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    async def autoscalers(self, namespace: str) -> list[Object]:
        """Every HorizontalPodAutoscaler of a namespace, whoever made it."""
        found = await self._request("get", self._path("HorizontalPodAutoscaler", namespace))
        return list(found["items"]) if found else []

    async def repair(self, live: Object, content: Object) -> None:
        """Replace top-level fields of this very version of an object, as in {"spec": {...}}."""
        metadata = live["metadata"]
        lock = {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
        replaced = [{"op": "replace", "path": f"/{key}", "value": value} for key, value in content.items()]
        await self._request(
            "patch",
            self._path(live["kind"], metadata["namespace"], metadata["name"]),
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
            self._path(desired["kind"], metadata["namespace"], metadata["name"]),
            body=desired | {"metadata": metadata},
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            force_conflicts=live is not None,
        )
        if after is None and live is None and (product := self._products.get(desired["kind"])):
            raise Refused(f"the API server does not know {desired['apiVersion']}: install {product}")
        if after is None:
            raise Stale(f"{desired['kind']} {metadata['name']} is gone")
        if live is None:
            return Applied(after, "Created")
        same = live["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        return Applied(after, None if same else "Updated")

    async def hand_over_replicas(self, deployment: Object, replicas: int) -> None:
        """Make another manager an owner of spec.replicas: server-side apply would reset it to 1 if its only owner
        left it out."""
        metadata = deployment["metadata"]
        await self._request(
            "patch",
            self._path("Deployment", metadata["namespace"], metadata["name"]),
            body={
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
                "spec": {"replicas": replicas},
            },
            content_type="application/apply-patch+yaml",
            field_manager=REPLICAS_MANAGER,
            force_conflicts=True,
        )

    async def create(self, content: Object) -> None:
        """Make an object that is not there; Stale if it is by now."""
        path = self._path(content["kind"], content["metadata"].get("namespace"))
        await self._request("post", path, body=content, field_manager=FIELD_MANAGER)

    async def merge(self, live: Object, content: Object) -> None:
        """Merge fields into this very version of an object; None removes one."""
        metadata = live["metadata"]
        version = {key: metadata[key] for key in ("uid", "resourceVersion")}
        done = await self._request(
            "patch",
            self._path(live["kind"], metadata.get("namespace"), metadata["name"]),
            body=content | {"metadata": content.get("metadata", {}) | version},
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )
        if done is None:
            raise Stale(f"{live['kind']} {metadata['name']} is gone")

    async def delete(self, live: Object) -> None:
        """Delete this very object; it may already be gone."""
        metadata = live["metadata"]
        await self._request(
            "delete",
            self._path(live["kind"], metadata["namespace"], metadata["name"]),
            body={"preconditions": {"uid": metadata["uid"]}},
            propagation_policy="Background",
        )

    async def write_status(self, service: Object, status: Object) -> None:
        """Replace the status of an LLMService; nothing happens if it is gone. By a merge: a field that an older
        definition of LLMService does not have is left out, where server-side apply would refuse the whole status."""
        former = service.get("status", {})
        metadata = service["metadata"]
        await self._request(
            "patch",
            self._path(KIND, metadata["namespace"], metadata["name"]) + "/status",
            body={
                "metadata": {"uid": metadata["uid"]},
                "status": dict.fromkeys(former.keys() - status.keys()) | status,
            },
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )

    async def record(self, service: Object, event: Event) -> None:
        """Record an event on an LLMService; the same event again counts up the event that is there."""
        metadata = service["metadata"]
        digest = hashlib.sha256(f"{metadata['uid']}/{event.reason}/{event.message}".encode()).hexdigest()[:16]
        name = f"{metadata['name']}.{digest}"
        path = self._path("Event", metadata["namespace"], name)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        known = await self._request("get", path)
        if known is not None:
            again = {"count": known.get("count", 1) + 1, "lastTimestamp": now}
            await self._request("patch", path, body=again, content_type="application/merge-patch+json")
            return
        await self._request(
            "post",
            self._path("Event", metadata["namespace"]),
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

    def _path(self, kind: str, namespace: str | None, name: str | None = None) -> str:
        path: str = self._resources[kind].path(name=name, namespace=namespace)
        return path

    async def _request(self, method: str, path: str, **parameters: Any) -> Object | None:
        """The answer's object, None for 404; Stale for 409, Refused for what asking again will not mend, Trouble for
        all else."""
        try:
            answer = await self._client.request(method, path, serialize=False, _request_timeout=30, **parameters)
            found: Object = await answer.json()
        except ApiException as error:
            if error.status == 404 and method != "post":
                return None
            message = _message(error)
            if error.status == 409:
                raise Stale(message) from None
            if error.status == 403:
                raise Forbidden(message) from None
            # What does not fit the kind's types comes back from server-side apply as a 500.
            if error.status in (400, 422) or any(sign in message for sign in _UNTYPED):
                raise Refused(message) from None
            raise Trouble(message) from None
        except (OSError, TimeoutError, ClientError) as error:
            raise Trouble(f"no answer from the API server: {type(error).__name__}: {error}") from None
        return found


# How server-side apply words what does not fit a kind's types.
_UNTYPED = (
    "failed to create typed patch object",
    "failed to convert new object",
    "field not declared in schema",
    "expected string, got",
)


def _message(error: ApiException) -> str:
    """The API server's own words, on one line."""
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = f"{error.status} {error.reason}"
    return " ".join(str(message).split())


@asynccontextmanager
async def connect() -> AsyncIterator[Connection]:
    """A connection with the pod's own service account, or with KUBECONFIG outside of a cluster."""
    try:
        config.load_incluster_config()
    except config.ConfigException:
        await config.load_kube_config()
    async with ApiClient() as api:
        yield Connection(api)
