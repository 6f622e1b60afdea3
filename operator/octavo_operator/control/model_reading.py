"""What a service's model is: from the table of builtin ones, or from a Job that reads it once and whose answer is kept
in the status."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from octavo_operator import sizing
from octavo_operator.control import model_jobs
from octavo_operator.control.model_jobs import Cluster, short
from octavo_operator.control.subject import Subject
from octavo_operator.resources import model_reading
from octavo_operator.sizing import Verdict
from octavo_operator.status import diagnosis
from octavo_operator.status.condition import condition_of
from octavo_runtime.planning.builtin_models import BUILTIN_DESCRIPTIONS
from octavo_runtime.planning.description import FoundModel, UnsupportedModel, read_description

Object = dict[str, Any]

PATIENCE = 120.0  # seconds; then pods start whether or not it is known what the model is


@dataclass(frozen=True)
class Reading:
    """Where it stands.

    Attributes:
        found: the model, or all that can be said of whether it fits.
        model: what the status says of it.
        waits: pods are to wait for a Job that is under way, or to be made.
        job: to be made.
        done: Jobs that are not needed any more.
    """

    found: FoundModel | Verdict
    model: Object | None = None
    waits: bool = False
    job: Object | None = None
    done: list[Object] = field(default_factory=list)


async def builtin(cluster: Cluster, subject: Subject) -> Reading:
    """Of a model that no Job reads."""
    name = subject.service.spec.model.uri.removeprefix("builtin://")
    if name in BUILTIN_DESCRIPTIONS:
        return await unread(cluster, subject, _described(BUILTIN_DESCRIPTIONS[name]))
    known = ", ".join(BUILTIN_DESCRIPTIONS)
    return await unread(cluster, subject, unreadable(f"no builtin model {name!r} is known here; there is: {known}"))


async def unread(cluster: Cluster, subject: Subject, found: FoundModel | Verdict) -> Reading:
    """Where nothing is to be read; what was read of a former source goes."""
    done = await model_jobs.of(cluster, subject.service) if subject.known else []
    return Reading(found, done=done or [])


async def read(cluster: Cluster, subject: Subject) -> Reading:
    """Of one that a Job reads."""
    service, wanted = subject.service, subject.wanted
    job = model_reading.build(service, subject.settings, subject.template)
    source = model_reading.source(service, subject.settings, subject.template)
    model: Object | None = subject.known if subject.known.get("source") == source else None
    good = model is not None and isinstance(described(model), FoundModel)  # all else is looked at again
    there = await model_jobs.of(cluster, service)
    if there is None:
        forbidden = unreadable("the operator may not see Jobs: upgrade its chart")
        return Reading(described(model) if model else forbidden, model)
    live = next((each for each in there if each["metadata"]["name"] == job["metadata"]["name"]), None)
    done = [each for each in there if each is not live or good or not wanted]
    if live is not None and not good and model_jobs.has_ended(live):
        pods = await cluster.job_pods(service.namespace, live["metadata"]["name"])
        if pods or model is None:
            model = {"source": source} | _answer(live, pods)
    to_make = job if wanted and live is None and not good else None
    if model is not None:
        return Reading(described(model), model, job=to_make, done=done)
    if not wanted:
        said = "what the model is, is read once pods are wanted"
        return Reading(Verdict(None, sizing.NO_POD_WANTED, said), done=done)
    name = job["metadata"]["name"]
    if live is not None and (why := await _delay(cluster, live, subject.now)) is not None:
        said = f"Job {name} has not said yet what the model is: {why}; pods start all the same"
        return Reading(Verdict(None, sizing.READING_MODEL, said), done=done)
    said = f"Job {name} reads what the model is, before pods start"
    return Reading(Verdict(None, sizing.READING_MODEL, said), waits=True, job=to_make, done=done)


def unreadable(why: str) -> Verdict:
    """Of a model that is not known."""
    said = f"what the model is, could not be read ahead: {why}; pods start all the same"
    return Verdict(None, sizing.MODEL_UNREADABLE, said)


def described(model: Object) -> FoundModel | Verdict:
    """What the status's words about a model come to."""
    return unreadable(model["problem"]) if "problem" in model else _described(model.get("description"))


def _described(line: str | None) -> FoundModel | Verdict:
    if line is None:
        return unreadable("what the model is, is not known here")
    try:
        return read_description(line)
    except UnsupportedModel as error:
        return Verdict(False, sizing.UNSUPPORTED, str(error))
    except ValueError as error:
        return unreadable(str(error))


def _answer(job: Object, pods: Sequence[Object]) -> Object:
    """What an ended Job's newest pod said: a description, or a problem."""
    for pod in diagnosis.newest_first(pods):
        for container in pod.get("status", {}).get("containerStatuses", []):
            ended = container.get("state", {}).get("terminated", {})
            said = ended.get("message", "")
            if ended.get("exitCode") == 0:
                try:
                    read_description(said)
                except UnsupportedModel:
                    pass
                except ValueError as error:
                    return {"problem": short(str(error))}
                return {"description": said}
            if line := diagnosis.last_line(said):
                return {"problem": short(line.removeprefix("octavo: "))}
        if problem := diagnosis.diagnose(pod):
            return {"problem": short(problem.message)}
    failure = condition_of(job.get("status", {}), "Failed") or {}
    why = failure.get("message") or "its pod is gone"
    return {"problem": short(f"Job {job['metadata']['name']} read nothing: {why}")}


async def _delay(cluster: Cluster, job: Object, now: datetime) -> str | None:
    """Why a Job that goes on is not waited for: what holds its pod up would hold the service's pods up too, and is told
    of those."""
    pods = await cluster.job_pods(job["metadata"]["namespace"], job["metadata"]["name"])
    if not pods and (why := await model_jobs.refusal(cluster, job)) is not None:
        return why
    problem = diagnosis.root_cause([pod for pod in pods if not _has_run(pod)])
    if problem is not None:
        return problem.message
    return f"{PATIENCE:g} s have passed" if model_jobs.age(job, now) > PATIENCE else None


def _has_run(pod: Object) -> bool:
    """Whether a pod is at its end, of whatever kind: its phase, and then its Job, say so a little later."""
    status = pod.get("status", {})
    ended = any("terminated" in each.get("state", {}) for each in status.get("containerStatuses", []))
    return ended or status.get("phase") in diagnosis.ENDED
