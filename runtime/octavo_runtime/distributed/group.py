"""What the ranks of a model tell each other while they compute (torch.distributed: gloo on CPUs, NCCL on GPUs)."""

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as torch_distributed
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from octavo_kernels.peer_sum import Peers, fits, peer_sum
from octavo_runtime.distributed.interface import listen
from octavo_runtime.distributed.mesh import Mesh

# A rank that is gone or silent is found otherwise, and sooner; an idle engine never waits in one of these.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Group:
    """The ranks from 0 to size - 1 that share the layers of a stage, of which this process is one. All of them call the
    same methods in the same order, with tensors of the same shapes. handle: None of all ranks that there are. peers:
    the ranks' GPUs, where each can write into the memory of the others."""

    rank: int
    size: int
    handle: torch_distributed.ProcessGroup | None = None
    peers: Peers | None = None

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors [tokens, hidden], in the tensor itself."""
        if self.peers is not None and fits(tensor, self.peers):
            return peer_sum(tensor, self.peers)
        torch_distributed.all_reduce(tensor, group=self.handle)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """All ranks' [rows, columns] side by side: [rows, size * columns]."""
        gathered = tensor.new_empty(self.size, *tensor.shape)
        torch_distributed.all_gather_into_tensor(gathered.flatten(0, 1), tensor.contiguous(), group=self.handle)
        return gathered.transpose(0, 1).reshape(len(tensor), -1)


@dataclass(frozen=True)
class Link:
    """The ranks of the neighbouring stages that this process hears and tells; None: there is none. What one sends, the
    other receives, in the same order and of the same shape. most: tensors that may be on their way at once."""

    before: int | None
    after: int | None
    most: int = 1
    _sent: "deque[torch_distributed.Work]" = field(default_factory=deque, compare=False)

    def receive(self, tensor: Tensor) -> Tensor:
        """Fills the tensor with what the stage before sends."""
        torch_distributed.recv(tensor, self.before)
        return tensor

    def send(self, tensor: Tensor) -> None:
        """Sends a tensor, which nobody may write to from then on. The process does not wait until the next stage takes
        it: that may have to be told something first. A GPU does, in its order."""
        if tensor.device.type == "cuda":
            torch_distributed.send(tensor, self.after)
            return
        if len(self._sent) == self.most:
            self._sent.popleft().wait()
        work = torch_distributed.isend(tensor, self.after)
        assert work is not None
        self._sent.append(work)


@dataclass(frozen=True)
class Team:
    """All ranks of a model, as one of them sees them. group: those that share its stage, if any do."""

    mesh: Mesh
    rank: int
    group: Group | None

    @property
    def link(self) -> Link:
        return Link(self.mesh.before(self.rank), self.mesh.after(self.rank), self.mesh.stages)

    def least(self, number: int) -> int:
        """The smallest of all ranks' numbers."""
        held = torch.tensor(number, device="cuda" if torch_distributed.get_backend() == "nccl" else "cpu")
        torch_distributed.all_reduce(held, torch_distributed.ReduceOp.MIN)
        return int(held)


def agreed(team: Team | None, number: int) -> int:
    """The smallest number of all ranks; the number itself where there are no others."""
    return number if team is None else team.least(number)


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


def join(mesh: Mesh, rank: int, store: TCPStore, gpu: int | None) -> Team:
    """Waits for the other ranks and joins them. gpu: the number of this rank's GPU on its machine; None: on CPUs."""
    if gpu is not None:
        torch.cuda.set_device(gpu)
    backend = "gloo" if gpu is None else "nccl"
    torch_distributed.init_process_group(backend, store=store, rank=rank, world_size=mesh.size, timeout=_PATIENCE)
    return Team(mesh, rank, _group_of(mesh, rank))


def has_joined() -> bool:
    """Whether this process computes with others already; of two such groups torch would take one for the other."""
    return torch_distributed.is_initialized()


def _group_of(mesh: Mesh, rank: int) -> Group | None:
    """Those of all ranks, which have joined, that share a rank's stage. All of them call it."""
    if mesh.shards == 1:
        return None
    if mesh.stages == 1:
        return Group(rank, mesh.size)
    # torch wants every rank to be there when any of the groups is made.
    handles = [torch_distributed.new_group(list(mesh.ranks_of(stage))) for stage in range(mesh.stages)]
    return Group(mesh.shard_of(rank), mesh.shards, handles[mesh.stage_of(rank)])


def leave(*, others_are_gone: bool = False) -> None:
    """Ends this process's part in it, where it has one. NCCL would wait for ranks that are gone: what parts it from
    them is the end of the process."""
    if torch_distributed.is_initialized() and not (others_are_gone and torch_distributed.get_backend() == "nccl"):
        torch_distributed.destroy_process_group()
