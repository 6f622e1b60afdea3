"""The way from the host's arrays to a device."""

import numpy as np
import numpy.typing as npt
import torch

# Triton compiles a kernel anew for a pointer that is aligned to less.
_ALIGNMENT = 16


def send(device: torch.device, *arrays: npt.NDArray[np.generic]) -> list[torch.Tensor]:
    """The arrays on a device, all in one copy, behind what it has to do already and without waiting for that."""
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    if device.type == "cpu":
        return tensors
    starts, end = [], 0
    for tensor in tensors:
        starts.append(end)
        end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
    # torch gives pinned memory to nobody else before the copy out of it is done.
    pinned = torch.empty(end, dtype=torch.uint8, pin_memory=True)
    for start, tensor in zip(starts, tensors, strict=True):
        _like(tensor, pinned, start).copy_(tensor)
    moved = pinned.to(device, non_blocking=True)
    return [_like(tensor, moved, start) for start, tensor in zip(starts, tensors, strict=True)]


def _like(tensor: torch.Tensor, memory: torch.Tensor, start: int) -> torch.Tensor:
    """The bytes of `memory` from `start` on as a tensor of the same type and shape."""
    return memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
