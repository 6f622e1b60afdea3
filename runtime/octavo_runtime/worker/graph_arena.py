"""What all CUDA graphs share: the memory of their temporary tensors, and how they are captured."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch

from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.reserves import arena_elements

Result = TypeVar("Result")

# Other threads may ask the GPU how far it is, as NCCL's do.
_CAPTURE_MODE = "thread_local"


class Arena(NamedTuple):
    """Memory for temporary tensors, and the stream for all captures: cuBLAS keeps a workspace for each stream that it
    has met. Each graph has the GPU for itself while it runs; captured one by one, each larger one would else take
    memory of its own."""

    holder: torch.cuda.CUDAGraph  # computes nothing
    stream: torch.cuda.Stream


def reserve(spec: ModelSpec, like: torch.Tensor, sequences: int, tokens: int) -> Arena | None:
    """The arena of graphs that compute in the type and on the device of `like`: decode steps of up to `sequences`, and
    up to `tokens` of steps with prompts. None without CUDA."""
    if like.device.type != "cuda":
        return None
    arena = Arena(torch.cuda.CUDAGraph(), torch.cuda.Stream(like.device))
    torch.cuda.synchronize(like.device)
    with torch.cuda.stream(arena.stream):
        arena.holder.capture_begin(capture_error_mode=_CAPTURE_MODE)
        like.new_empty(arena_elements(spec, sequences, tokens, like.itemsize))[0].zero_()
        arena.holder.capture_end()
    return arena


def capture(arena: Arena, compute: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
    """`compute` as a graph, and what it returns, which each replay computes anew. It runs once before, so that all
    kernels are there."""
    torch.cuda.synchronize(arena.stream.device)
    with torch.cuda.stream(arena.stream):
        compute()
        arena.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin(pool=arena.holder.pool(), capture_error_mode=_CAPTURE_MODE)
        result = compute()
        graph.capture_end()
    return graph, result
