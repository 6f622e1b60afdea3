"""What the ranks of a model tell each other while they compute (torch.distributed: gloo on CPUs, NCCL on GPUs)."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as torch_distributed
from torch import Tensor

# A rank that is gone or silent is found otherwise, and sooner; an idle engine never waits in one of these.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Group:
    """The ranks from 0 to size - 1, of which this process is one. All of them call the same methods in the same
    order, with tensors of the same shapes."""

    rank: int
    size: int

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors, in the tensor itself."""
        torch_distributed.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """All ranks' [rows, columns] side by side: [rows, size * columns]."""
        gathered = tensor.new_empty(self.size, *tensor.shape)
        torch_distributed.all_gather_into_tensor(gathered.flatten(0, 1), tensor.contiguous())
        return gathered.transpose(0, 1).reshape(len(tensor), -1)

    def least(self, number: int) -> int:
        """The smallest of all ranks' numbers."""
        held = torch.tensor(number, device="cuda" if torch_distributed.get_backend() == "nccl" else "cpu")
        torch_distributed.all_reduce(held, torch_distributed.ReduceOp.MIN)
        return int(held)


def agreed(group: Group | None, number: int) -> int:
    """The smallest number of all ranks; the number itself where there is no group."""
    return number if group is None else group.least(number)


def join(rank: int, size: int, store: str, device: str) -> Group:
    """Waits for the other ranks and joins them. store: a path that no file has yet, the same for all ranks, which are
    processes of this machine. device: "cpu" or "cuda", where rank N takes GPU N."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch_distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    return Group(rank, size)


def leave() -> None:
    """Ends this process's part in it, where it has one."""
    if torch_distributed.is_initialized():
        torch_distributed.destroy_process_group()
