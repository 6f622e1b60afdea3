"""spec.accelerator: what the model runs on."""

from typing import Literal, Self

from pydantic import BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.quantities import Memory
from octavo_operator.api.rules import cel, strict
from octavo_runtime.config.engine import EngineConfig

# The resource of a node and of a container that counts GPUs.
GPU = "nvidia.com/gpu"
MOST_DEVICES = 16  # of a node
_MOST_RANKS = EngineConfig.model_fields["tensor_parallel_size"].metadata[1].le
# Of nvidia's devices: what the cpu type has no use for.
_OF_GPU = ("product", "memory")


class AcceleratorSpec(BaseModel):
    model_config = strict(
        *(
            cel(
                f"self.type == 'nvidia' || !has(self.{name})",
                f"'{name} is used by type nvidia only, and type is ' + self.type",
                f".{name}",
            )
            for name in _OF_GPU
        ),
        cel(
            "!has(self.nodes) || self.nodes == 1 || self.type == 'cpu' || has(self.count)",
            "'count must be set where nodes is more than 1, got nodes %d'.format([self.nodes])",
            ".nodes",
        ),
        cel(
            f"!has(self.nodes) || !has(self.count) || self.nodes == 1 || self.nodes * self.count <= {_MOST_RANKS}",
            f"'nodes times count must be at most {_MOST_RANKS}, got %d times %d'.format([self.nodes, self.count])",
            ".nodes",
        ),
        cel(
            "!has(self.exclusiveTopology) || (has(self.nodes) && self.nodes > 1)",
            "'exclusiveTopology is used where nodes is more than 1, got nodes %d'.format([self.nodes])",
            ".exclusiveTopology",
        ),
    )

    type: Literal["cpu", "nvidia"] = Field("cpu", description="What the model runs on: cpu or nvidia. Default cpu.")
    count: int | None = Field(
        None,
        ge=1,
        le=MOST_DEVICES,
        description="Devices of each pod, which compute the model together; the number, divided by "
        "engine.pipelineParallelSize, must divide the model's attention heads and inner widths. For cpu: processes "
        "that share the pod's CPUs. Default: 1, or the fewest GPUs of one node that hold a model which one does not "
        "hold (status.chosen).",
    )
    nodes: int = Field(
        1,
        ge=1,
        le=16,
        description="Pods that are one replica, each with count devices, so that a model may be larger than a node; "
        "nodes times count, divided by engine.pipelineParallelSize, must divide the model's attention heads and inner "
        "widths. With more than 1 replicas are the groups of a LeaderWorkerSet, whose controller the cluster must "
        "have, in place of a Deployment's pods. Default 1.",
    )
    exclusive_topology: str | None = Field(
        None,
        min_length=1,
        max_length=317,
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        description="Label of nodes, such as topology.kubernetes.io/zone or one that tells racks apart: all pods of a "
        "replica go to nodes with one value of it, and no other replica of a LeaderWorkerSet that asks for this goes "
        "there. Only where nodes is more than 1. Default: pods of a replica go anywhere.",
    )
    product: str | None = Field(
        None,
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description="The GPU that pods run on, as its nodes' label nvidia.com/gpu.product says it, such as "
        "NVIDIA-A100-SXM4-80GB; pods go to such nodes alone. Default: any.",
    )
    memory: Memory | None = Field(
        None,
        description="Memory of one GPU, such as 80Gi, by which the operator reckons whether the model fits. Default: "
        "what the nodes' labels nvidia.com/gpu.memory and nvidia.com/gpu.product say.",
    )

    @validates(mode="after")
    def _of_gpus_alone(self) -> Self:
        for name in _OF_GPU:
            if self.type != "nvidia" and getattr(self, name) is not None:
                raise ValueError(f"{name} is used by type nvidia only, got type {self.type!r}")
        return self

    @validates(mode="after")
    def _of_several_nodes(self) -> Self:
        if self.nodes == 1:
            if self.exclusive_topology is not None:
                raise ValueError("exclusiveTopology is used where nodes is more than 1, got nodes 1")
            return self
        if self.type != "cpu" and self.count is None:
            raise ValueError(f"count must be set where nodes is more than 1, got nodes {self.nodes}")
        if self.ranks > _MOST_RANKS:
            raise ValueError(f"nodes times count must be at most {_MOST_RANKS}, got {self.nodes} times {self.count}")
        return self

    @property
    def ranks(self) -> int:
        """The devices of one replica, those of all its pods."""
        return self.nodes * (self.count or 1)
