"""Whether a service's model is in its cache: the claim, the Job that downloads it there, and what that said, which is
kept in the status."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from octavo_operator.api import LLMService
from octavo_operator.control import model_jobs
from octavo_operator.control.drift import digest, holds, stamp
from octavo_operator.control.model_jobs import short
from octavo_operator.control.subject import Subject
from octavo_operator.resources import cache_claim, metadata, model_download
from octavo_operator.scraping.downloads import Downloads, Progress
from octavo_operator.status import conditions, diagnosis
from octavo_operator.status.conditions import Obstacle

Object = dict[str, Any]

_SETTLES = 15.0  # seconds that a volume and an image may take before it is told what a pod lacks
_KEPT = ("description", "revision", "folder", "size")  # of what the Job says


class Cluster(model_jobs.Cluster, Protocol):
    """What it asks of the API server."""

    async def get(self, kind: str, namespace: str, name: str) -> Object | None: ...


@dataclass(frozen=True)
class Cached:
    """Where it stands.

    Attributes:
        model: what the status says of the model.
        obstacle: why it is not there.
        make: objects to be made, in this order.
        done: Jobs that are not needed any more.
    """

    model: Object | None = None
    obstacle: Obstacle | None = None
    make: list[Object] = field(default_factory=list)
    done: list[Object] = field(default_factory=list)

    @property
    def folder(self) -> str | None:
        """In the cache, once the model is there."""
        return None if self.model is None else self.model.get("folder")


async def look(cluster: Cluster, downloads: Downloads, subject: Subject) -> Cached:
    """Reads; writes nothing."""
    service, settings, template = subject.service, subject.settings, subject.template
    claim = await cluster.get("PersistentVolumeClaim", service.namespace, cache_claim.name(service))
    made = cache_claim.build(service, settings)
    known = _known(subject)
    if obstacle := _of_claim(service, claim, made):
        return Cached(known, obstacle)
    make = [made] if made is not None and not (claim is not None and holds(claim, made)) else []
    if known is not None and claim is not None and known.get("claim") == claim["metadata"]["uid"]:
        downloads.forget(service.key)
        return Cached(known, make=make)
    name = model_download.name(service, template)
    own = await model_jobs.of(cluster, service) or []
    if not subject.wanted:
        downloads.forget(service.key)
        return Cached(make=make, done=own)
    others = [each for each in own if each["metadata"]["name"] != name]
    job = await cluster.get("Job", service.namespace, name)  # another service may have made it
    source = {"source": model_download.source(service, template)}
    wanted = stamp(model_download.build(service, settings, template))
    if job is None or "deletionTimestamp" in job["metadata"]:
        obstacle = _downloading(service, name, None)
        make += [wanted] if job is None else []
        return Cached(source, obstacle, make, others)
    pods = await cluster.job_pods(service.namespace, name)
    said = _said(pods)
    if said is not None and "folder" in said and claim is not None:
        downloads.forget(service.key)
        kept = {field: said[field] for field in _KEPT if field in said}
        return Cached(source | {"claim": claim["metadata"]["uid"]} | kept, make=make, done=others)
    if said is None and model_jobs.has_ended(job):
        # Whoever took its pods away took its answer along. What it downloaded is found again.
        return Cached(source, _downloading(service, name, None), make, [*others, job])
    if not _runs(pods) and metadata.owns(service.uid, job) and digest(job) != digest(wanted):
        # The spec says another way, which may be what the Job wants to run.
        return Cached(source, _downloading(service, name, None), make, [*others, job])
    if not pods and (why := await model_jobs.refusal(cluster, job)) is not None:
        obstacle = Obstacle(conditions.DOWNLOAD_FAILED, f"Job {name}: {why}", valid=True, stalls=False)
        return Cached(source, obstacle, make, others)
    progress = next((found for pod in pods if (found := downloads.progress(service.key, pod))), None)
    obstacle = _failure(service, name, pods, said, progress, age=model_jobs.age(job, subject.now))
    obstacle = obstacle or _downloading(service, name, progress)
    return Cached(source | _under_way(progress), obstacle, make, others)


def _runs(pods: Sequence[Object]) -> bool:
    containers = (each for pod in pods for each in pod.get("status", {}).get("containerStatuses", []))
    return any("running" in container.get("state", {}) for container in containers)


def _of_claim(service: LLMService, claim: Object | None, made: Object | None) -> Obstacle | None:
    """What is wrong with the claim."""
    name = cache_claim.name(service)
    if claim is None and made is None:
        said = f"spec.model.cache.claimName: there is no PersistentVolumeClaim {name} in namespace {service.namespace}"
        return Obstacle(conditions.NO_CACHE, f"{said}; create it, or set size, and one is made", valid=True)
    if claim is not None and "deletionTimestamp" in claim["metadata"]:
        said = f"PersistentVolumeClaim {name} is being removed, and its pods mount it"
        return Obstacle(conditions.NO_CACHE, said, valid=True, stalls=False)
    if claim is not None and made is not None and not metadata.owns(service.uid, claim):
        said = f"PersistentVolumeClaim {name} exists and is not this service's"
        advice = "to use it, name it in spec.model.cache.claimName and leave size out"
        return Obstacle(conditions.NAME_CONFLICT, f"{said}; {advice}", valid=True)
    return None


def _known(subject: Subject) -> Object | None:
    """What the status says of the model that was downloaded, if that is of this source."""
    known = subject.known
    is_of_source = known.get("source") == model_download.source(subject.service, subject.template)
    return known if is_of_source and "folder" in known else None


def _said(pods: Sequence[Object]) -> Object | None:
    """What the newest end of the Job's container came to."""
    for pod in diagnosis.newest_first(pods):
        for container in pod.get("status", {}).get("containerStatuses", []):
            ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
            if ended:
                return _read(ended)
    return None


def _read(ended: Object) -> Object:
    try:
        said = json.loads(ended.get("message", ""))
    except ValueError:
        said = None
    if isinstance(said, dict) and isinstance(said.get("folder"), str) and ended.get("exitCode") == 0:
        return said
    if isinstance(said, dict) and isinstance(said.get("problem"), str):
        return {"problem": said["problem"].removeprefix("model: "), "full": said.get("full") is True}
    if ended.get("reason") == "OOMKilled":
        return {"problem": "it ran out of memory"}
    if ended.get("exitCode") == 0:
        return {"problem": "its Job did not say where the model is; its image is of another version than the operator"}
    line = diagnosis.last_line(ended.get("message", "")).removeprefix("octavo: ")
    return {"problem": line or f"it ended with exit code {ended.get('exitCode')}, nothing logged"}


def _under_way(progress: Progress | None) -> Object:
    if progress is None or progress.bytes is None or progress.total is None:
        return {}
    return {"download": progress.model_dump(by_alias=True, exclude_none=True, exclude={"waits"})}


def _failure(
    service: LLMService,
    name: str,
    pods: Sequence[Object],
    said: Object | None,
    progress: Progress | None,
    *,
    age: float,
) -> Obstacle | None:
    """Why a Job that goes on does not get on. One that runs again and moves bytes has got over its failure."""
    runs = _runs(pods)
    if said is not None and not (runs and progress is not None and progress.total is not None):
        reason = conditions.CACHE_FULL if said.get("full") else conditions.DOWNLOAD_FAILED
        claim = f"PersistentVolumeClaim {cache_claim.name(service)}"
        remedy = f"; give {claim} more room, or delete what is not served any more" if said.get("full") else ""
        words = f"{service.spec.model.uri} was not downloaded: {said['problem']}{remedy}; it is tried again"
        return Obstacle(reason, short(words), valid=True, stalls=False)
    if not runs and age > _SETTLES and (problem := diagnosis.root_cause(pods)) is not None:
        return Obstacle(conditions.DOWNLOAD_FAILED, f"Job {name}: {problem.message}", valid=True, stalls=False)
    return None


def _downloading(service: LLMService, name: str, progress: Progress | None) -> Obstacle:
    said = f"Job {name} downloads {service.spec.model.uri} to PersistentVolumeClaim {cache_claim.name(service)}"
    return Obstacle(conditions.DOWNLOADING, said + _far(progress), valid=True, stalls=False)


def _far(progress: Progress | None) -> str:
    if progress is None:
        return ""
    said = ""
    if progress.bytes is not None and progress.total is not None:
        said += f": {progress.bytes / 1e9:.2f} of {progress.total / 1e9:.2f} GB"
        if progress.bytes_per_second is not None:
            said += f", {progress.bytes_per_second / 1e6:.1f} MB/s"
        if progress.seconds_left is not None:
            said += f", about {_span(progress.seconds_left)} left"
    return said + (f"; {short(progress.waits)}" if progress.waits else "")


def _span(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
