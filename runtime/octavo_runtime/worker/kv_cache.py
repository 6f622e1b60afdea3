"""The KV cache's tensors, on the device and in host memory, and the moves of blocks between them."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from octavo_runtime.models.layer_groups import layers_of_a_block
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.protocol.step import Move, MoveKind

_MEASURED_BLOCKS = 8


class KVCache:
    """Keys and values, both tensors [layer, 2, block, slot, kv_head, head_dim], or of latent attention [layer, 1,
    block, slot, 1, rank + rope]: `device` is the cache, `host` takes the blocks of swapped-out sequences. A block is
    one index of the third dimension, and belongs to a sequence in one group of layers: the first dimension is that of a
    group."""

    def __init__(
        self,
        spec: ModelSpec,
        num_blocks: int,
        num_host_blocks: int,
        block_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        def shape(blocks: int) -> tuple[int, ...]:
            planes, heads, width = spec.cached_token
            return (layers_of_a_block(spec), planes, blocks, block_size, heads, width)

        # Zeroed once: a stale NaN in a slot that attention masks would still spoil the sum (0 * NaN is NaN).
        if device.type == "cpu":
            self.device = _lazy_zeros(shape(num_blocks), dtype)
        else:
            self.device = torch.zeros(shape(num_blocks), dtype=dtype, device=device)
        self.host = _lazy_zeros(shape(num_host_blocks), dtype)
        self.block_size = block_size
        self.block_bytes = self.device[:, :, :1].numel() * dtype.itemsize

    def apply(self, moves: Sequence[Move]) -> None:
        """Carries out the moves as if one after another."""
        for run in _independent_runs(moves):
            source = torch.tensor([move.source for move in run])
            target = torch.tensor([move.target for move in run])
            match run[0].kind:
                case MoveKind.COPY:
                    _copy(self.device, source, self.device, target)
                case MoveKind.SWAP_OUT:
                    _copy(self.device, source, self.host, target)
                case MoveKind.SWAP_IN:
                    _copy(self.host, source, self.device, target)

    def swap_bytes_per_second(self) -> float:
        """Measured speed of the way to host memory and back, blocks moved as `apply` moves them. Infinite where there
        is no room to measure with, since nothing is swapped then."""
        blocks = min(_MEASURED_BLOCKS, self.device.shape[2], self.host.shape[2])
        if blocks == 0:
            return float("inf")
        out = [Move(MoveKind.SWAP_OUT, block, block) for block in range(blocks)]
        back = [Move(MoveKind.SWAP_IN, block, block) for block in range(blocks)]
        self.apply(out + back)
        started = time.perf_counter()
        self.apply(out + back)
        if self.device.device.type == "cuda":
            torch.cuda.synchronize(self.device.device)
        return 2 * blocks * self.block_bytes / (time.perf_counter() - started)


def _lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Zeros whose memory comes from the system when it is first written: filling a GiB takes most of a second of a
    start, and most services swap nothing."""
    return torch.from_numpy(np.zeros(shape, f"i{dtype.itemsize}")).view(dtype)


def _copy(source: torch.Tensor, source_blocks: torch.Tensor, target: torch.Tensor, target_blocks: torch.Tensor) -> None:
    if source.itemsize == 1:  # torch copies no blocks of FP8
        source, target = source.view(torch.uint8), target.view(torch.uint8)
    content = source.index_select(2, source_blocks.to(source.device)).to(target.device)
    target.index_copy_(2, target_blocks.to(target.device), content)


def _independent_runs(moves: Sequence[Move]) -> Iterator[list[Move]]:
    """Cuts the moves where one depends on what an earlier one of its run wrote, or changes kind."""
    run: list[Move] = []
    written: set[int] = set()
    for move in moves:
        depends = move.target in written or (move.kind is MoveKind.COPY and move.source in written)
        if run and (move.kind is not run[0].kind or depends):
            yield run
            run, written = [], set()
        run.append(move)
        written.add(move.target)
    if run:
        yield run
