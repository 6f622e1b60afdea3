"""What is known of an LLMService at one moment: plain data, that rules and the checklist read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from octavo_operator.api import LLMService
from octavo_operator.api.accelerator import GPU
from octavo_operator.resources import workload
from octavo_operator.resources.leader_worker_set import leads
from octavo_operator.resources.pod_template import CONTAINER, engine_of
from octavo_operator.status import autoscaling
from octavo_operator.status.condition import condition_of
from octavo_operator.status.diagnosis import is_ready
from octavo_runtime.top.sample import Sample

Object = dict[str, Any]

NO_LOGS, NO_METRICS = "logs", "metrics"
DASHBOARDS = "dashboards"  # of the lists: ConfigMaps that a Grafana reads


@dataclass(frozen=True)
class Log:
    """The last lines of an engine's container, and of the one before it, as they were written."""

    current: str = ""
    previous: str = ""


@dataclass(frozen=True)
class Evidence:
    """
    Attributes:
        body: the LLMService as it is stored; `service`: its parsed form, None where the spec is invalid.
        now: when it was read.
        owned: what belongs to the service, by kind. A kind that has no object of its name is left out.
        pods: its pods.
        events: of the service, its pods and what it owns, by (kind, name), oldest first.
        logs: by pod.
        samples: of each pod that answered, two looks at its metrics, or one twice.
        lists: of the namespace, and what watches it from others, by kind; a kind that the cluster does not know is left
            out. With `secrets`, whether each Secret that the service names is there, and the namespace's `labels`, it
            is the service's surroundings, which are not always asked for.
        unread: what could not be read, by what it is (a kind, `logs`, `metrics`), and why, in words.
    """

    body: Object
    service: LLMService | None
    now: datetime
    owned: Mapping[str, Object] = field(default_factory=dict)
    pods: Sequence[Object] = ()
    events: Mapping[tuple[str, str], Sequence[Object]] = field(default_factory=dict)
    logs: Mapping[str, Log] = field(default_factory=dict)
    samples: Mapping[str, tuple[Sample, Sample]] = field(default_factory=dict)
    lists: Mapping[str, Sequence[Object]] = field(default_factory=dict)
    secrets: Mapping[str, bool] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"]["namespace"])

    @property
    def annotations(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.body["metadata"].get("annotations") or {}
        return found

    def condition(self, type_: str) -> Object:
        """A condition of the LLMService; empty where it has none of that type."""
        return condition_of(self.body.get("status", {}), type_) or {}

    @property
    def blind_autoscaler(self) -> Object:
        """The condition that says why autoscaling does not work, and has not for a while; else empty. New pods have no
        figures at first."""
        told = self.condition("ScalingActive")
        if told.get("status") != "False" or told["reason"] == autoscaling.STARTING:
            return {}
        since = datetime.fromisoformat(told["lastTransitionTime"])
        return told if (self.now - since).total_seconds() >= autoscaling.SETTLES else {}

    def pod_events(self, pod: Object) -> Sequence[Object]:
        return self.events.get(("Pod", pod["metadata"]["name"]), ())

    @property
    def wanted(self) -> int:
        """How many replicas there are to be: as what runs them says, else as the spec does, at least."""
        if running := workload.of(self.owned):
            return int(running["spec"].get("replicas", 1))
        spec = self.body["spec"]
        if spec.get("suspend"):
            return 0
        autoscaled = spec.get("autoscaling")
        return int(autoscaled.get("minReplicas", 1) if autoscaled else spec.get("replicas", 1))

    @property
    def template(self) -> Object | None:
        """The template of the pods that answer clients; None where nothing runs them."""
        running = workload.of(self.owned)
        return None if running is None else workload.leader_template(running)

    @property
    def untold(self) -> str:
        """Why there is no template."""
        nodes = self.body["spec"].get("accelerator", {}).get("nodes", 1)
        kind = workload.DEPLOYMENT if nodes == 1 else workload.LEADER_WORKER_SET
        return self.unread.get(kind, f"there is no {kind} {self.name}")

    @property
    def ready(self) -> list[Object]:
        """The pods that answer and stay."""
        here = [pod for pod in self.pods if leads(pod) and "deletionTimestamp" not in pod["metadata"]]
        return [pod for pod in here if is_ready(pod)]

    @property
    def arguments(self) -> Mapping[str, str]:
        """The arguments of the engine's container, by flag; of one given twice the last value."""
        words = container(self.template).get("args", []) if self.template else []
        found: dict[str, str] = {}
        for word, next_ in pairwise([*words, ""]):
            if word.startswith("--"):
                flag, told, value = word.partition("=")
                found[flag] = value if told else "" if next_.startswith("--") else next_
        return found

    @property
    def on_gpu(self) -> bool:
        return bool(self.body["spec"].get("accelerator", {}).get("type") == "nvidia")


def container(pod: Object) -> Object:
    """The engine's container in a pod or a pod template; empty where there is none."""
    return engine_of(pod) or {}


def state(pod: Object) -> Object:
    """What the kubelet says of the engine's container; empty before it says anything."""
    told = pod.get("status", {}).get("containerStatuses", [])
    found: Object = next((item for item in told if item["name"] == CONTAINER), {})
    return found


def last_end(pod: Object) -> Object:
    """How the engine's container ended last; empty where it never did."""
    told = state(pod)
    found: Object = told.get("state", {}).get("terminated") or told.get("lastState", {}).get("terminated") or {}
    return found


def gpus(pod: Object) -> int:
    return int(container(pod).get("resources", {}).get("limits", {}).get(GPU, 0))
