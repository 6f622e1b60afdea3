"""Every kind of object that the operator reads, writes or watches, said once. What is watched, where requests go, what
a service owns, in which order that is applied, what is pruned, and the rights that the chart gives follow from it."""

from dataclasses import dataclass

from octavo_operator.api.definition import GROUP, KIND, PLURAL, VERSION

# On each object that belongs to an LLMService: the service's name.
SERVICE_LABEL = f"{GROUP}/service"

# Names that the chart fills in: of what the installation has in its own namespace, and on the cluster.
INSTALLATION, ON_CLUSTER, OPERATOR = "INSTALLATION", "NAMESPACE-INSTALLATION", "OPERATOR"
WEBHOOK, WEBHOOK_ON_CLUSTER = "WEBHOOK", "NAMESPACE-WEBHOOK"

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
        product: what must be installed for the API server to know the kind, where Kubernetes alone does not.
    """

    name: str
    group: str
    version: str
    plural: str
    verbs: tuple[str, ...]
    status_verbs: tuple[str, ...] = ()
    suffix: str | None = None
    only: str | None = None
    product: str | None = None

    @property
    def is_watched(self) -> bool:
        return "watch" in self.verbs


LLM_SERVICE = Kind(KIND, GROUP, VERSION, PLURAL, ("get", *_SEEN), status_verbs=("patch",))
CONFIG_MAP = Kind("ConfigMap", "", "v1", "configmaps", _PRUNED, suffix="-dashboard")
# Watched once the cluster knows the kind.
LEADER_WORKER_SET = Kind(
    "LeaderWorkerSet",
    "leaderworkerset.x-k8s.io",
    "v1",
    "leaderworkersets",
    _PRUNED,
    suffix="",
    product="LeaderWorkerSet (lws.sigs.k8s.io)",
)
LEASE = Kind("Lease", "coordination.k8s.io", "v1", "leases", ("get", "create", "patch"), only=GROUP)

# In a service's own namespace; what it owns, in the order in which it is applied.
KINDS = (
    LLM_SERVICE,
    Kind("Pod", "", "v1", "pods", _SEEN),
    Kind("Event", "", "v1", "events", ("get", "list", "create", "patch")),
    LEASE,
    # A cache of models; the service's own has its name, and is not deleted for as long as the service is there.
    Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims", ("get", "create", "patch")),
    # Reads what a model is, or downloads it; its name says of what source, so none is at a fixed one.
    Kind("Job", "batch", "v1", "jobs", _PRUNED),
    Kind("ServiceAccount", "", "v1", "serviceaccounts", _KEPT, suffix=""),
    CONFIG_MAP,
    Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies", _PRUNED, suffix=""),
    Kind("Service", "", "v1", "services", _KEPT, suffix=""),
    Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets", _KEPT, suffix=""),
    # Of a service, one of the two.
    Kind("Deployment", "apps", "v1", "deployments", _PRUNED, suffix=""),
    LEADER_WORKER_SET,
    Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers", _PRUNED, suffix=""),
    # Not watched: most clusters do not know the kind.
    Kind(
        "ScaledObject",
        "keda.sh",
        "v1alpha1",
        "scaledobjects",
        ("get", "create", "patch", "delete"),
        suffix="",
        product="KEDA",
    ),
    Kind("Ingress", "networking.k8s.io", "v1", "ingresses", _PRUNED, suffix=""),
    # Watched once the cluster knows the kind.
    Kind(
        "HTTPRoute",
        "gateway.networking.k8s.io",
        "v1",
        "httproutes",
        _PRUNED,
        suffix="",
        product="the Gateway API",
    ),
)

# Of the cluster: kopf notices when the definition of LLMService comes or changes; labels of nodes tell their GPUs.
CLUSTER_KINDS = (
    Kind("CustomResourceDefinition", "apiextensions.k8s.io", "v1", "customresourcedefinitions", _SEEN),
    Kind("Node", "", "v1", "nodes", ("list",)),
)


# Of the cluster, for serving custom.metrics.k8s.io. The API goes with the chart's ClusterRole, which owns it. Of the
# older version only whether somebody serves it.
_API_SERVICE = ("APIService", "apiregistration.k8s.io", "v1", "apiservices")
API_SERVICE = Kind(*_API_SERVICE, ("get", "create", "patch"), only="v1beta2.custom.metrics.k8s.io")
OLDER_API_SERVICE = Kind(*_API_SERVICE, ("get",), only="v1beta1.custom.metrics.k8s.io")
CLUSTER_ROLE = Kind("ClusterRole", "rbac.authorization.k8s.io", "v1", "clusterroles", ("get",), only=ON_CLUSTER)
METRICS_API_CLUSTER_KINDS = (API_SERVICE, OLDER_API_SERVICE, CLUSTER_ROLE)

# In the operator's own namespace, for the same.
SECRET = Kind("Secret", "", "v1", "secrets", ("get", "patch"), only=INSTALLATION)
METRICS_API_KINDS = (SECRET,)

# For the validating webhook, there and on the cluster. The configuration is the chart's, with the operator's authority.
WEBHOOK_KINDS = (Kind("Secret", "", "v1", "secrets", ("get", "patch"), only=WEBHOOK),)
WEBHOOK_CLUSTER_KINDS = (
    Kind(
        "ValidatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        ("get", "patch"),
        only=WEBHOOK_ON_CLUSTER,
    ),
)

# There too, for electing the one of several replicas that works: the Lease, and their own pods, which are marked.
LEADER_KINDS = (
    Kind("Lease", "coordination.k8s.io", "v1", "leases", ("get", "create", "patch"), only=OPERATOR),
    Kind("Pod", "", "v1", "pods", ("get", "patch")),
)


ALL_KINDS = (*KINDS, *CLUSTER_KINDS, *METRICS_API_CLUSTER_KINDS, *METRICS_API_KINDS, *WEBHOOK_CLUSTER_KINDS)


_BY_NAME = {kind.name: kind for kind in ALL_KINDS}


def product(kind: str) -> str | None:
    """What must be installed for the API server to know a kind."""
    return _BY_NAME[kind].product


def path(kind: str, namespace: str | None, name: str | None = None) -> str:
    """Where the API server has an object, or all of its kind. `namespace`: None for what is of the cluster, and for all
    namespaces."""
    found = _BY_NAME[kind]
    group = f"/apis/{found.group}" if found.group else "/api"
    where = f"/namespaces/{namespace}" if namespace else ""
    return f"{group}/{found.version}{where}/{found.plural}" + (f"/{name}" if name else "")


def watched() -> list[Kind]:
    """The kinds of what belongs to a service, and wakes it by an event."""
    return [kind for kind in KINDS if kind.is_watched and kind is not LLM_SERVICE]


def owned(service: str) -> list[tuple[str, str]]:
    """(kind, name) of every object that a service may own, in the order in which they are applied."""
    return [(kind.name, service + kind.suffix) for kind in KINDS if kind.suffix is not None]
