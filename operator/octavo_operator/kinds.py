"""Every kind of object that the operator reads, writes or watches, said once. What is watched, where requests go, what
a service owns, in which order that is applied, what is pruned, and the rights that the chart gives follow from it."""

from dataclasses import dataclass

from octavo_operator.api.definition import GROUP, KIND, PLURAL, VERSION

# On each object that belongs to an LLMService: the service's name.
SERVICE_LABEL = f"{GROUP}/service"

_SEEN = ("list", "watch")
_KEPT = ("get", *_SEEN, "create", "patch")
_PRUNED = (*_KEPT, "delete")  # not wanted any more once a service turns a feature off


@dataclass(frozen=True)
class Kind:
    """
    Attributes:
        verbs: what the operator does with objects of this kind, in RBAC's words.
        status_verbs: what it does with their status.
        suffix: of the one object that a service owns: its name is the service's and this. None: it owns none.
        only: the one name that the operator has to do with, where there is one.
    """

    name: str
    group: str
    version: str
    plural: str
    verbs: tuple[str, ...]
    status_verbs: tuple[str, ...] = ()
    suffix: str | None = None
    only: str | None = None

    @property
    def is_watched(self) -> bool:
        return "watch" in self.verbs


LLM_SERVICE = Kind(KIND, GROUP, VERSION, PLURAL, ("get", *_SEEN), status_verbs=("patch",))
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps", _PRUNED, suffix="-dashboard")
LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases", ("get", "create", "patch"), only=GROUP)

# In a service's own namespace; what it owns, in the order in which it is applied.
KINDS = (
    LLM_SERVICE,
    Kind("Pod", "", "v1", "pods", _SEEN),
    Kind("Event", "", "v1", "events", ("get", "list", "create", "patch")),
    LEASE,
    Kind("ServiceAccount", "", "v1", "serviceaccounts", _KEPT, suffix=""),
    CONFIG_MAP,
    Kind("Service", "", "v1", "services", _KEPT, suffix=""),
    Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", _KEPT, suffix=""),
    Kind("Deployment", "apps", "v1", "deployments", _KEPT, suffix=""),
    Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", _PRUNED, suffix=""),
)

# Of the cluster: kopf notices when the definition of LLMService comes or changes.
CLUSTER_KINDS = (Kind("CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions", _SEEN),)


def watched() -> list[Kind]:
    """The kinds of what belongs to a service, and wakes it by an event."""
    return [kind for kind in KINDS if kind.is_watched and kind is not LLM_SERVICE]


def owned(service: str) -> list[tuple[str, str]]:
    """(kind, name) of every object that a service may own, in the order in which they are applied."""
    return [(kind.name, service + kind.suffix) for kind in KINDS if kind.suffix is not None]
