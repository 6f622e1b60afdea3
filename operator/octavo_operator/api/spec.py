"""spec: the whole of it, and the rules between its parts."""

from typing import Self

from pydantic import BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.accelerator import AcceleratorSpec
from octavo_operator.api.autoscaling import AutoscalingSpec
from octavo_operator.api.endpoint import EndpointSpec
from octavo_operator.api.engine import EngineSpec
from octavo_operator.api.environment import Environment
from octavo_operator.api.model import ModelSpec
from octavo_operator.api.observability import ObservabilitySpec
from octavo_operator.api.placement import NODE_SELECTOR_RULES, NodeSelector, Toleration
from octavo_operator.api.pod_template import PodTemplate
from octavo_operator.api.quantities import parse_memory
from octavo_operator.api.resources import ResourcesSpec
from octavo_operator.api.rollout import RolloutSpec
from octavo_operator.api.rules import cel, strict
from octavo_operator.api.slo import SLOSpec

CACHE_MARGIN = "128Mi"  # Python, the weights and all else that is no cache take more than that

_RANKS = " * ".join(f"(has(self.accelerator.{name}) ? self.accelerator.{name} : 1)" for name in ("nodes", "count"))
_STAGES = "self.engine.pipelineParallelSize"


class LLMServiceSpec(BaseModel):
    model_config = strict(
        cel(
            "self.replicas == 1 || !has(self.autoscaling)",
            "'set replicas or autoscaling, not both: replicas is %d; remove it or autoscaling'.format([self.replicas])",
            ".replicas",
        ),
        cel(
            "self.accelerator.type != 'cpu' || !has(self.engine.kvCacheMemory)"
            " || !isQuantity(string(self.engine.kvCacheMemory)) || !isQuantity(string(self.resources.memory))"
            f" || !quantity(string(self.engine.kvCacheMemory)).add(quantity('{CACHE_MARGIN}'))"
            ".isGreaterThan(quantity(string(self.resources.memory)))",
            f"'must be less than resources.memory (%s) by {CACHE_MARGIN} at least, got %s'"
            ".format([self.resources.memory, self.engine.kvCacheMemory])",
            ".engine.kvCacheMemory",
        ),
        cel(
            f"!has({_STAGES}) || ({_RANKS}) % {_STAGES} == 0",
            "'must divide the devices of a replica, accelerator.nodes times count (%d), got %d'"
            f".format([{_RANKS}, {_STAGES}])",
            ".engine.pipelineParallelSize",
        ),
    )

    model: ModelSpec = Field(description="The model to serve. Required.")
    engine: EngineSpec = Field(
        default_factory=EngineSpec, description="Settings of the engine. Default: each at its own default."
    )
    accelerator: AcceleratorSpec = Field(
        default_factory=AcceleratorSpec, description="What the model runs on. Default: the CPU."
    )
    resources: ResourcesSpec = Field(
        default_factory=ResourcesSpec, description="What each replica needs. Default: cpu 1, memory 4Gi."
    )
    replicas: int = Field(
        # A default in the schema, since the scale subresource cannot be read without a number.
        1,
        ge=0,
        le=1000,
        description="Number of replicas, each a pod or a group of accelerator.nodes pods; `kubectl scale` writes it. "
        "Not together with autoscaling. Where it is left out, an autoscaler of your own may scale the Deployment or "
        "LeaderWorkerSet. Default 1.",
    )
    suspend: bool = Field(
        False,
        description="Run no pod, whatever replicas and autoscaling say, and keep all else. Afterwards there are as "
        "many as replicas says, or as an autoscaler of yours had left; with autoscaling, minReplicas. Default false.",
    )
    autoscaling: AutoscalingSpec | None = Field(
        None, description="Let the load decide the number of replicas. Default: off, replicas decides."
    )
    slo: SLOSpec = Field(
        default_factory=SLOSpec,
        description="What the service promises; alerts tell when it breaks that. Default: nothing.",
    )
    endpoint: EndpointSpec = Field(
        default_factory=EndpointSpec, description="Where clients connect. Default: a ClusterIP Service on port 80."
    )
    rollout: RolloutSpec = Field(
        default_factory=RolloutSpec, description="How pods are replaced. Default: requests get 300s to finish."
    )
    image: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Image of the pods. Default: the one that the operator was installed with.",
    )
    env: Environment = Field(
        default_factory=list,
        max_length=64,
        description="Variables of the engine's environment. They win over those that the operator sets (HOME, HF_HOME, "
        "HF_TOKEN), and podTemplate's over these. Default: none.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    node_selector: NodeSelector = Field(
        default_factory=dict,
        max_length=32,
        description="Labels of the nodes that pods may run on, beside those of the operator's podDefaults, over which "
        "they win, as they do over accelerator.product. Default: none.",
        json_schema_extra=NODE_SELECTOR_RULES,
    )
    tolerations: list[Toleration] = Field(
        default_factory=list,
        max_length=32,
        description="Taints of nodes that pods tolerate, beside those of the operator's podDefaults, and on GPUs "
        "nvidia.com/gpu. Default: none.",
    )
    pod_template: PodTemplate = Field(
        default_factory=PodTemplate,
        description="Last resort: merged over the pod template that the operator builds. Lists merge by the key that "
        "Kubernetes gives them (containers, volumes and env by name, the container is called engine; volumeMounts by "
        "mountPath; ports by containerPort); tolerations are added, and so are args that start with a dash; "
        "topologySpreadConstraints replace those of the same topologyKey; a null removes; all else replaces. "
        "Default: empty.",
    )
    observability: ObservabilitySpec = Field(
        default_factory=ObservabilitySpec, description="What watches the service. Default: each at its own default."
    )

    @validates(mode="after")
    def _one_way_to_scale(self) -> Self:
        if self.replicas != 1 and self.autoscaling is not None:
            raise ValueError(f"set replicas or autoscaling, not both: got replicas {self.replicas} beside autoscaling")
        return self

    @property
    def tensor_parallel_size(self) -> int:
        """Devices that share each layer."""
        return self.accelerator.ranks // self.engine.pipeline_parallel_size

    @validates(mode="after")
    def _stages_divide_devices(self) -> Self:
        ranks, stages = self.accelerator.ranks, self.engine.pipeline_parallel_size
        if ranks % stages:
            raise ValueError(
                f"engine.pipelineParallelSize must divide the devices of a replica, accelerator.nodes times count "
                f"({ranks}), got {stages}"
            )
        return self

    @validates(mode="after")
    def _cache_fits_memory(self) -> Self:
        cache = self.engine.kv_cache_memory
        if (
            self.accelerator.type == "cpu"
            and cache is not None
            and parse_memory(cache) + parse_memory(CACHE_MARGIN) > parse_memory(self.resources.memory)
        ):
            raise ValueError(
                f"engine.kvCacheMemory must be less than resources.memory ({self.resources.memory}) by {CACHE_MARGIN} "
                f"at least, got {cache}"
            )
        return self
