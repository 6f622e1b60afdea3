"""What a round of reconciling has seen of a service, and worked out of that: what its status is made from."""

from dataclasses import dataclass, field, replace
from typing import Any

from octavo_operator.api import Key, LLMService
from octavo_operator.resources import workload
from octavo_operator.resources.leader_worker_set import leads
from octavo_operator.resources.metadata import owns
from octavo_operator.sizing import Verdict
from octavo_operator.status.autoscaling import Metrics
from octavo_operator.status.rollout import NOTHING, Rollout

Object = dict[str, Any]

AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


@dataclass(frozen=True)
class Sized:
    """What is known of the model and of the memory that it takes: the condition Fits, and the parts of the status."""

    verdict: Verdict
    model: Object | None = None
    memory: Object | None = None
    chosen: Object | None = None


@dataclass
class Observation:
    """It grows as the round goes on, so that whatever ends it can be told.

    Attributes:
        body: the LLMService as it is stored; `service`: its parsed form, None where the spec is invalid.
        objects: what there is where the service's own would be, by kind and name.
        pods: its workload's; `pod_events`: by pod, of those that do not answer; `refusal`: why the API server takes no
            more of a group's pods, in its words.
        rival: what else scales its workload.
        contention: that two installations would serve its namespace, in words.
        metrics: None where the operator brings its autoscaler none.
        sized: None where the round did not come to it, and what was known before stays.
        lacks_gpu: see control.room.
        queued: what a pod template that the operator brings waits for, in words.
    """

    body: Object
    service: LLMService | None = None
    objects: dict[tuple[str, str], Object | None] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)
    pod_events: dict[str, list[Object]] = field(default_factory=dict)
    refusal: str | None = None
    rival: str | None = None
    contention: str | None = None
    metrics: Metrics | None = None
    sized: Sized | None = None
    lacks_gpu: bool | None = None
    queued: str | None = None

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    def own(self, kind: str, name: str | None = None) -> Object | None:
        """A live object, None if there is none that is the service's. `name`: else the service's."""
        live = self.objects.get((kind, name or self.name))
        return live if live is not None and owns(self.body["metadata"]["uid"], live) else None

    @property
    def running(self) -> Object | None:
        """The service's own workload: of the kind that it is to have, else the other, which goes once that is there."""
        found = {kind: own for kind in workload.KINDS if (own := self.own(kind)) is not None}
        wanted = None if self.service is None else found.get(workload.kind(self.service))
        return wanted or workload.of(found)

    @property
    def rollout(self) -> Rollout:
        """Where that stands; of what nothing runs yet, all that is asked for is missing."""
        running = self.running
        return Rollout.of(running, self.pods) if running is not None else replace(NOTHING, wanted=self._asked_for)

    @property
    def _asked_for(self) -> int:
        """Replicas by the spec, which may be invalid in this or in something else."""
        if self.service is None:
            said = (self.body.get("spec") or {}).get("replicas")
            return said if isinstance(said, int) else 1
        spec = self.service.spec
        if spec.suspend:
            return 0
        return spec.replicas if spec.autoscaling is None else spec.autoscaling.min_replicas

    @property
    def leaders(self) -> list[Object]:
        """The pods that answer clients and tell of themselves."""
        return [pod for pod in self.pods if leads(pod)]

    @property
    def autoscaler(self) -> Object | None:
        """The service's own."""
        return next((found for kind in AUTOSCALERS if (found := self.own(kind))), None)
