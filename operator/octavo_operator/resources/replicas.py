"""How many replicas there are and are to be, and who goes first in a rollout: a Deployment's are pods, those of a
LeaderWorkerSet groups of pods."""

from dataclasses import dataclass

from octavo_operator.api import GROUP, LLMService

# Remembers the number that an autoscaler left behind, also while the service is suspended.
KEPT = f"{GROUP}/replicas"


@dataclass(frozen=True)
class Replicas:
    """How many there are and are to be.

    Attributes:
        present: what the workload has, or will have once it is written; None for a new one.
        wanted: what the operator writes; None where somebody else does.
        kept: the number that an autoscaler left behind; None where the spec says another.
    """

    present: int | None = None
    wanted: int | None = None
    kept: int | None = None


FRESH = Replicas()


def written(service: LLMService, replicas: Replicas) -> int | None:
    """The number that the operator writes; None where somebody else does."""
    if replicas.wanted is None and service.spec.autoscaling is None and replicas.present is None:
        return service.spec.replicas
    return replicas.wanted


def rolling_update(service: LLMService, replicas: Replicas, *, makes_room: bool) -> dict[str, int]:
    """Under auto a single replica is never ended for its successor: the endpoint would be down. makes_room: nothing is
    spare for one more, so under auto one of several ends first."""
    strategy = service.spec.rollout.strategy
    several = (replicas.present if replicas.wanted is None else replicas.wanted) not in (None, 0, 1)
    if strategy == "recreate" or (strategy == "auto" and makes_room and several):
        return {"maxUnavailable": 1, "maxSurge": 0}
    return {"maxUnavailable": 0, "maxSurge": 1}
