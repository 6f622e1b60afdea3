"""Who says how many replicas there are. One party: the spec, its own autoscaler, or one that somebody else made."""

from collections.abc import Sequence
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.cluster import FIELD_MANAGER, REPLICAS_MANAGER
from octavo_operator.resources.replicas import KEPT, Replicas

Object = dict[str, Any]

# A person at the command line scales once; everybody else who writes a scale goes on doing so.
_PEOPLE = ("kubectl",)


def decide(service: LLMService, running: Object | None, rival: str | None, own_autoscaler: Object | None) -> Replicas:
    """How many replicas there are, and what the operator writes. `running` and `own_autoscaler`: what there is of the
    service's own; `rival`: another autoscaler of its workload."""
    if service.spec.suspend:
        return _suspended(service, running, own_autoscaler)
    if running is None:
        return Replicas()
    present = _present(running)
    if service.spec.autoscaling is not None:
        start = to_hand_over(service, running)
        return Replicas(present=present if start is None else start)
    if rival is not None:
        return Replicas(present=present)
    if service.replicas_said:
        return Replicas(present=present, wanted=service.spec.replicas)
    kept = _left_behind(service, running, own_autoscaler)
    return Replicas(present=present, wanted=service.spec.replicas if kept is None else kept, kept=kept)


def _suspended(service: LLMService, running: Object | None, own_autoscaler: Object | None) -> Replicas:
    """None, and what there was is remembered where nobody else would know it afterwards: another's autoscaler leaves a
    workload of 0 replicas alone for ever."""
    if running is None:
        return Replicas(wanted=0)
    said = service.spec.autoscaling is not None or service.replicas_said
    kept = None if said else _left_behind(service, running, own_autoscaler)
    return Replicas(present=_present(running), wanted=0, kept=kept)


def _left_behind(service: LLMService, running: Object, own_autoscaler: Object | None) -> int | None:
    """The number that an autoscaler left behind, where the spec says another."""
    kept = running["metadata"].get("annotations", {}).get(KEPT)
    if kept is not None and kept.isdecimal():
        return int(kept)
    if own_autoscaler is not None or _scaled_by_another(running):
        wanted = max(_present(running), 1)
        return wanted if wanted != service.spec.replicas else None
    return None


def to_hand_over(service: LLMService, running: Object) -> int | None:
    """The number from which the service's autoscaler goes on; None where it holds the number already. It stays away
    from a workload of 0 replicas for ever, so it is given the fewest that it may have."""
    bounds = service.spec.autoscaling
    if bounds is None or service.spec.suspend or not (_present(running) == 0 or FIELD_MANAGER in _writers(running)):
        return None
    return max(bounds.min_replicas, min(bounds.max_replicas, _present(running)))


def may_have_a_rival(service: LLMService, running: Object | None) -> bool:
    """Whether somebody other than a person or the operator has scaled the workload."""
    return service.spec.autoscaling is None and running is not None and _scaled_by_another(running)


def rival(kind: str, name: str, autoscalers: Sequence[Object]) -> str | None:
    """What else scales the workload of this kind and name, named by who made it, such as a ScaledObject."""
    for autoscaler in autoscalers:
        target = autoscaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) != (kind, name):
            continue
        owners = autoscaler["metadata"].get("ownerReferences", [])
        if any(owner["kind"] == "LLMService" for owner in owners):
            continue
        if owners:
            return f"{owners[0]['kind']} {owners[0]['name']}"
        return f"HorizontalPodAutoscaler {autoscaler['metadata']['name']}"
    return None


def _present(running: Object) -> int:
    return int(running["spec"].get("replicas", 1))


def _scaled_by_another(running: Object) -> bool:
    return any(
        entry.get("subresource") == "scale"
        and not entry["manager"].startswith(_PEOPLE)
        and entry["manager"] not in (FIELD_MANAGER, REPLICAS_MANAGER)
        for entry in _entries(running)
    )


def _writers(running: Object) -> set[str]:
    return {entry["manager"] for entry in _entries(running)}


def _entries(running: Object) -> list[Object]:
    """The records of who wrote spec.replicas."""
    return [
        entry
        for entry in running["metadata"].get("managedFields", [])
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    ]
