"""What a Triton launch needs to know about its GPU."""

from functools import lru_cache
from typing import NamedTuple

import torch


class Gpu(NamedTuple):
    """Limits of one GPU."""

    processors: int  # streaming multiprocessors
    shared_memory: int  # bytes that one program may use


# Without a GPU, kernels run in Triton's interpreter or are only compiled: the launch is then an H100's.
H100 = Gpu(processors=132, shared_memory=232_448)


@lru_cache
def gpu(device: torch.device) -> Gpu:
    """The limits of `device`."""
    if device.type != "cuda":
        return H100
    properties = torch.cuda.get_device_properties(device)
    # torch's type stubs do not know the second.
    return Gpu(properties.multi_processor_count, properties.shared_memory_per_block_optin)  # type: ignore[attr-defined]


@lru_cache
def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a CUDA `device`: (9, 0) is Hopper."""
    return torch.cuda.get_device_capability(device)
