"""What runs the scheduler's plans on a device, and the one for this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Team
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.models.loading.specs import is_encoder
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.protocol.step import Masks, StepPlan, StepResult

if TYPE_CHECKING:
    from octavo_runtime.worker.follower import Follower
    from octavo_runtime.worker.model_runner import ModelRunner


@dataclass(frozen=True)
class Launched:
    """A step under way. `result` waits for it, and is called once, with the masks where the plan is masked.

    leads: the tokens that it draws lie on the device, one for each row that draws. The next step may be launched before
    `result` is called, with UNKNOWN in their place; a step that does not lead must be waited for first."""

    result: Callable[[Masks | None], StepResult]
    leads: bool = False


class Executor(Protocol):
    """A loaded model on its device, with its KV cache. `ready` says what it settled on. `depth`: how many steps, each
    of other sequences, may be under way at once, so that nothing stands still."""

    ready: Ready
    spec: ModelSpec
    max_num_batched_tokens: int
    block_bytes: int
    swap_bytes_per_second: float
    depth: int

    def launch(self, plan: StepPlan) -> Launched:
        """Starts one step, behind those that are under way."""
        ...

    def prepare(self) -> bool:
        """Does a part of what steps would else wait for when it is first needed; whether there was one left. Only
        while no step is under way."""
        ...


def make_executor(config: EngineConfig, files: ModelFiles, further: "Sequence[Follower]" = ()) -> Executor:
    """The executor that the configuration asks for. further: of several ranks, those of this node that are started
    already, or none. Raises ValueError: a model that cannot be served, a device that is not there, or a configuration
    that does not fit."""
    if config.node_rank != 0:
        raise ValueError(f"node_rank: must be 0 but for `octavo serve`, got {config.node_rank}")
    if config.num_ranks > 1:
        from octavo_runtime.worker.ranks import start_ranks

        return start_ranks(config, files, further)
    return _encoder_executor(config, files) if is_encoder(files) else device_executor(config, files)


def device_executor(config: EngineConfig, files: ModelFiles, team: Team | None = None) -> "ModelRunner":
    """The executor of this process's device, for this one's share of the model where a team of ranks computes it.
    Raises ValueError, see make_executor."""
    if device_of(config) == "cuda":
        from octavo_runtime.worker.device.cuda import cuda_executor

        return cuda_executor(config, files, team)
    from octavo_runtime.worker.device.cpu import cpu_executor

    return cpu_executor(config, files, team)


def _encoder_executor(config: EngineConfig, files: ModelFiles) -> Executor:
    if device_of(config) == "cuda":
        from octavo_runtime.worker.device.cuda import cuda_encoder

        return cuda_encoder(config, files)
    from octavo_runtime.worker.device.cpu import cpu_encoder

    return cpu_encoder(config, files)


def device_of(config: EngineConfig) -> Literal["cpu", "cuda"]:
    """The kind of device that the configuration asks for. Raises UnsupportedModel where this machine has none, or too
    few of them."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cpu" or (config.device == "auto" and count == 0):
        return "cpu"
    if count == 0:
        raise UnsupportedModel("device: cuda was asked for, but this machine has no CUDA device that PyTorch can use")
    if config.local_ranks > count:
        each = "" if config.nnodes == 1 else f" for each of {config.nnodes} nodes"
        times = "" if config.pipeline_parallel_size == 1 else f" times {config.pipeline_parallel_size} stages"
        raise UnsupportedModel(
            f"tensor_parallel_size: must be at most {count}, the CUDA devices here,{each} "
            f"got {config.tensor_parallel_size}{times}"
        )
    return "cuda"


def gpu_of(config: EngineConfig, rank: int) -> int | None:
    """The number of a rank's GPU on its machine; None on CPUs. Raises UnsupportedModel, see device_of."""
    return rank % config.local_ranks if device_of(config) == "cuda" else None
