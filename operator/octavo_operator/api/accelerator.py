"""spec.accelerator: what the model runs on."""

from typing import Literal, Self

from pydantic import BaseModel, Field
from pydantic import model_validator as validates

from octavo_operator.api.quantities import Memory
from octavo_operator.api.rules import cel, strict

# The resource of a node and of a container that counts GPUs.
GPU = "nvidia.com/gpu"
MOST_DEVICES = 16  # of a node
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
        )
    )

    type: Literal["cpu", "nvidia"] = Field("cpu", description="What the model runs on: cpu or nvidia. Default cpu.")
    count: int | None = Field(
        None,
        ge=1,
        le=MOST_DEVICES,
        description="Devices of one replica, all of one node, which compute the model together; the number must divide "
        "the model's attention heads and inner widths. For cpu: processes that share the pod's CPUs. Default: 1, or "
        "the fewest GPUs of one node that hold a model which one does not hold (status.chosen).",
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
