"""What the ranks of a model tell each other while they compute (torch.distributed: gloo on CPUs, NCCL on GPUs)."""

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as torch_distributed
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from octavo_runtime.distributed.interface import listen

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


def open_store(address: str) -> TCPStore:
    """Where ranks meet, on a free port of one of this machine's addresses; it lives as long as what is returned. Raises
    OSError: no address of this machine."""
    listener = listen(address, 0)
    port = listener.getsockname()[1]
    return TCPStore(
        address, port, is_master=True, timeout=_PATIENCE, wait_for_workers=False, master_listen_fd=listener.detach()
    )


def find_store(address: str, port: int) -> TCPStore:
    """The store that another rank has opened."""
    return TCPStore(address, port, is_master=False, timeout=_PATIENCE, wait_for_workers=False)


def join(rank: int, size: int, store: TCPStore, gpu: int | None) -> Group:
    """Waits for the other ranks and joins them. gpu: the number of this rank's GPU on its machine; None: on CPUs."""
    if gpu is not None:
        torch.cuda.set_device(gpu)
    backend = "gloo" if gpu is None else "nccl"
    torch_distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    return Group(rank, size)


def leave() -> None:
    """Ends this process's part in it, where it has one."""
    if torch_distributed.is_initialized():
        torch_distributed.destroy_process_group()
