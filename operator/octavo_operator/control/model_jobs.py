"""The Jobs that read or download a service's model: which there are, how old they are, whether they have ended."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from octavo_operator.api import LLMService
from octavo_operator.cluster import Forbidden
from octavo_operator.resources import model_reading
from octavo_operator.resources.model_download import CACHE_LABEL
from octavo_operator.status import pod_events
from octavo_operator.status.condition import is_true

Object = dict[str, Any]

_MOST_WORDS = 1000


class Cluster(Protocol):
    """What is asked of the API server for them."""

    async def jobs(self, namespace: str, service_name: str) -> list[Object]: ...
    async def job_pods(self, namespace: str, job: str) -> list[Object]: ...
    async def events(self, kind: str, namespace: str, name: str) -> list[Object]: ...


async def of(cluster: Cluster, service: LLMService) -> list[Object] | None:
    """A service's; None where a chart of an earlier version gives no right to see any."""
    try:
        found = await cluster.jobs(service.namespace, service.name)
    except Forbidden:
        return None
    return [job for job in found if _is_of_model(job["metadata"].get("labels", {}))]


def _is_of_model(labels: Mapping[str, str]) -> bool:
    return model_reading.LABEL.items() <= labels.items() or CACHE_LABEL in labels


async def refusal(cluster: Cluster, job: Object) -> str | None:
    """Why the API server takes no pod of a Job, and what to do about it, where that is known."""
    metadata = job["metadata"]
    try:
        events = await cluster.events("Job", metadata["namespace"], metadata["name"])
    except Forbidden:
        return None
    said = pod_events.refusal(events, metadata.get("creationTimestamp", ""))
    return None if said is None else pod_events.refused(said)


def has_ended(job: Object) -> bool:
    """Whether it has come to its end, of either kind."""
    status = job.get("status", {})
    return is_true(status, "Complete") or is_true(status, "Failed")


def age(job: Object, now: datetime) -> float:
    """Seconds since it was made."""
    made = job["metadata"].get("creationTimestamp")
    return 0.0 if made is None else (now - datetime.fromisoformat(made)).total_seconds()


def short(text: str) -> str:
    """What it said, on one line that a status holds."""
    return " ".join(text.split())[:_MOST_WORDS]
