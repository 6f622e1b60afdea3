"""What the pod template of a Deployment or LeaderWorkerSet was made from: the service's wishes, what the installation
brings, and this operator's own way to build. Told apart, so that a change of each goes its own way: a wish is carried
out at once, what the installation brings comes to one service after another, and another way to build replaces no pod
by itself."""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import Enum, auto
from typing import Any, Self

from octavo_operator.api import GROUP, LLMService
from octavo_operator.cluster import FIELD_MANAGER
from octavo_operator.control.drift import applied, edited_by_another, holds
from octavo_operator.resources import metadata
from octavo_operator.resources.workload import template_path
from octavo_operator.settings import Settings

Object = dict[str, Any]

# On it, in JSON.
MADE_FROM = f"{GROUP}/made-from"

# Raise it where pods must not run on as an earlier version of the operator built them: they are then replaced as for a
# new image, one service after another. Any other change of how pods are built comes with a service's next rollout.
BUILD = 1

# What the installation brings to a pod template.
_BROUGHT = ("runtime_image", "image_pull_policy", "propagate_labels", "propagate_annotations", "pod_defaults")
# What of a spec does not reach a pod template.
_ELSEWHERE: Any = {
    "replicas": True,
    "suspend": True,
    "autoscaling": True,
    "observability": True,
    "endpoint": {"port", "type", "annotations", "ingress", "gateway"},
    "rollout": {"strategy"},
}


@dataclass(frozen=True)
class Provenance:
    """Digests of each source and of the template. `in_turn`: it came by what the installation brings, and the rollout
    that brings it goes on."""

    spec: str
    handed_down: str
    installation: str
    template: str
    in_turn: bool = False

    @classmethod
    def of(cls, service: LLMService, settings: Settings, workload: Object) -> Self:
        """Of the workload that a service is to have."""
        spec = service.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_ELSEWHERE)
        cached = {"cached": service.cached} if service.cached is not None else {}
        brought = {name: getattr(settings, name) for name in _BROUGHT}
        return cls(
            spec=_digest({name: value for name, value in (spec | cached).items() if value != {}}),
            handed_down=_digest(metadata.handed_down(service, settings)),
            installation=_digest([BUILD, brought]),
            template=_digest(_template(workload)),
        )

    @classmethod
    def read(cls, live: Object) -> Self | None:
        """Of one that is there; None where an operator of an earlier version made it, or somebody else."""
        try:
            return cls(**json.loads(live["metadata"].get("annotations", {})[MADE_FROM]))
        except (KeyError, ValueError, TypeError):
            return None


class Way(Enum):
    AT_ONCE = auto()
    IN_TURN = auto()
    NEXT_TIME = auto()


def way(live: Object, workload: Object, wanted: Provenance) -> Way:
    """How the pod template of `workload` comes to the one that is there. A change of the spec takes along what else
    waits; so does what another wrote, which is put right at once."""
    known = Provenance.read(live)
    before, after = applied(live, FIELD_MANAGER, template_path(live)), _template(workload)
    if before is None:
        return Way.AT_ONCE  # nobody knows what there is to keep
    if known is None:
        return Way.AT_ONCE if holds(before, after) and holds(after, before) else Way.IN_TURN
    if known.template == wanted.template or known.spec != wanted.spec:
        return Way.AT_ONCE
    if edited_by_another(live, FIELD_MANAGER, template_path(live)):
        return Way.AT_ONCE
    if known.installation != wanted.installation:
        return Way.IN_TURN
    return Way.AT_ONCE if known.handed_down != wanted.handed_down else Way.NEXT_TIME


def marked(workload: Object, provenance: Provenance) -> Object:
    """The workload with a note of what its pod template was made from."""
    said = json.dumps({name: value for name, value in asdict(provenance).items() if value}, sort_keys=True)
    annotations = workload["metadata"].get("annotations", {}) | {MADE_FROM: said}
    return workload | {"metadata": workload["metadata"] | {"annotations": annotations}}


def held(workload: Object, live: Object, known: Provenance | None) -> Object:
    """The workload with the pod template that was last applied, and what is known of that."""
    *_, name = template_path(live)
    spec = workload["spec"] | {name: applied(live, FIELD_MANAGER, template_path(live))}
    return marked(workload | {"spec": spec}, known) if known is not None else workload | {"spec": spec}


def _template(workload: Object) -> Any:
    *_, name = template_path(workload)
    return workload["spec"][name]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
