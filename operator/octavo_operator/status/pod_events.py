"""What the kubelet and the scheduler say of a pod in events alone: volumes that cannot be mounted, sandboxes that
cannot be made, probes that fail."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo_operator.resources.pod_template import CONTAINER

Event = dict[str, Any]

_OBSTACLES = (
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "FailedCreatePodSandBox",
    "FailedCreatePodContainer",
    "NetworkNotReady",
    "NetworkFailed",
    "FailedToRetrieveImagePullSecret",
)
# Says only that another of these events holds.
_ECHO = "Unable to attach or mount volumes"

# Volume of the pod template -> what to do where it cannot be mounted.
_VOLUMES = {
    "api-keys": "create the Secret that spec.endpoint.apiKeysSecret names, in the service's namespace",
    "tls": "create the Secret that spec.endpoint.tlsSecret names, in the service's namespace",
    "model": "check the claim that spec.model names",
}
# What refuses a pod -> what to do about it.
_REFUSALS = {
    r"exceeded quota": "raise the quota",
    r"must specify": "set it for the engine's container in spec.podTemplate, or as a default in a LimitRange of the "
    "namespace",
    r"maximum (cpu|memory) usage": "raise that of the LimitRange, or ask for less in spec.resources",
    r"minimum (cpu|memory) usage": "lower that of the LimitRange, or ask for more in spec.resources",
}
_UNHEALTHY = "Unhealthy"  # a probe failed
_KILLING = re.compile(r"Container (\S+) failed (liveness|startup) probe")


@dataclass(frozen=True)
class Cause:
    reason: str
    said: str
    remedies: list[str]


def obstacle_to_start(events: Sequence[Event]) -> Cause | None:
    """Why the containers of a pod are not created, by the last event that says; `events` oldest first."""
    told = [event for event in events if event.get("reason") in _OBSTACLES and event.get("message")]
    told.sort(key=lambda event: not event["message"].startswith(_ECHO))
    if not told:
        return None
    event = told[-1]
    return Cause(event["reason"], event["message"], _remedies(event["message"]))


def refusal(events: Sequence[Event], since: str) -> str | None:
    """Why the API server takes no pod of what makes them, by the last event that says how it went; `events` oldest
    first. `since`: those before are of another of the same name."""
    told = [
        event
        for event in events
        if event.get("reason") in ("FailedCreate", "SuccessfulCreate")
        and str(event.get("lastTimestamp") or event.get("eventTime") or since) >= since
    ]
    return str(told[-1].get("message")) if told and told[-1]["reason"] == "FailedCreate" else None


def refused(said: str) -> str:
    """That pods are refused, in the API server's words, and what to do about it."""
    remedies = [remedy for sign, remedy in _REFUSALS.items() if re.search(sign, said)]
    return "; ".join([f"the API server refuses pods: {said}", *remedies])


def _remedies(message: str) -> list[str]:
    found = [remedy for volume, remedy in _VOLUMES.items() if re.search(rf'volume "{volume}"|\[{volume}\]', message)]
    if "Multi-Attach" in message:
        found.append("only one node at a time may have that volume: set spec.rollout.strategy: recreate")
    if not found and re.search(r'(secret|configmap) "[^"]+" not found', message):
        found.append("create it in the service's namespace, or correct spec.podTemplate")
    return found


def line(event: Event) -> str:
    """What an event says, in one line; its reason where it says nothing."""
    return " ".join(str(event.get("message", event.get("reason", ""))).split())


def failed_probe(events: Sequence[Event]) -> str:
    """What the probe met that failed last; empty where none did. `events` oldest first."""
    failed = [event for event in events if event.get("reason") == _UNHEALTHY]
    return line(failed[-1]) if failed else ""


def killed_by_probe(events: Sequence[Event], container: str) -> Cause | None:
    """The probe for which the kubelet ended a container, and what that probe met."""
    for event in reversed(events):
        match = _KILLING.match(event.get("message", ""))
        if match is None or match[1].rstrip(",") != container:
            continue
        probe = match[2]
        met = [
            each["message"]
            for each in events
            if each.get("reason") == _UNHEALTHY and each.get("message", "").lower().startswith(f"{probe} probe failed")
        ]
        remedy = "kubectl logs --previous shows its last words"
        if container == CONTAINER:
            remedy += "; a server that is too busy to answer wants more spec.resources.cpu"
        return Cause("ProbeFailed", met[-1] if met else f"its {probe} probe failed", [remedy])
    return None
