"""Tensors of a checkpoint to the device that computes with them.

A copy to a GPU of what lies in a memory map goes page by page through one thread of the driver. Here several threads
fill pinned buffers, from which the GPU fetches by itself, while they read on."""

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

_THREADS = 8
_BUFFER_BYTES = 2**24
_FEW_BYTES = 2**22  # below, one copy takes no longer


def placed_rows(parts: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The rows of all parts [rows, ...], one part under another: brought to a GPU they are of `dtype`, else as they
    were."""
    if device.type != "cuda" or parts[0].device.type == "cuda":
        return torch.cat(list(parts)) if len(parts) > 1 else parts[0]
    rows = sum(len(part) for part in parts)
    placed = torch.empty(rows, *parts[0].shape[1:], dtype=dtype, device=device)
    for part, target in zip(parts, placed.split([len(part) for part in parts]), strict=True):
        copy_to(part, target)
    return placed


def copy_to(source: Tensor, target: Tensor) -> None:
    """Copies a tensor to another of the same shape."""
    plain = source.device.type == "cuda" or target.device.type != "cuda" or not target.is_contiguous()
    if plain or source.dtype != target.dtype or source.nbytes < _FEW_BYTES or not source.is_contiguous():
        target.copy_(source)
        return
    step = _BUFFER_BYTES // source.itemsize
    pieces = zip(source.view(-1).split(step), target.view(-1).split(step), strict=True)
    for done in [_pool().submit(_through_pinned, *piece) for piece in pieces]:
        done.result()


def _through_pinned(source: Tensor, target: Tensor) -> None:
    """Copies at most _BUFFER_BYTES, and returns when they are there."""
    buffers = _buffers()
    buffer = buffers.get()
    try:
        stream = torch.cuda.Stream(target.device)
        # The target's memory may have been another tensor's that kernels under way still read.
        stream.wait_stream(torch.cuda.default_stream(target.device))
        filled = buffer.view(source.dtype)[: len(source)]
        filled.copy_(source)
        with torch.cuda.stream(stream):
            target.copy_(filled, non_blocking=True)
        stream.synchronize()
    finally:
        buffers.put(buffer)


@lru_cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="weights")


@lru_cache
def _buffers() -> "queue.SimpleQueue[Tensor]":
    buffers: queue.SimpleQueue[Tensor] = queue.SimpleQueue()
    for _ in range(_THREADS):
        buffers.put(torch.empty(_BUFFER_BYTES, dtype=torch.uint8, pin_memory=True))
    return buffers
