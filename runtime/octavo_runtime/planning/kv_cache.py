"""The KV cache in bytes, blocks and tokens, and the host memory for the blocks of preempted requests."""

import math
from bisect import bisect_right
from collections.abc import Sequence

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.units import gigabytes, parse_quantity
from octavo_runtime.models.layer_groups import group_windows, layers_of_a_block, most_entries
from octavo_runtime.models.spec import ModelSpec
from octavo_runtime.planning.limits import DoesNotFit
from octavo_runtime.planning.parameters import element_size

GPU_SWAP_LIMIT = 2**32
_CPU_CACHE_LIMIT = 2**30


def kv_element_size(config: EngineConfig) -> int:
    """Bytes of one number of the KV cache."""
    return element_size(config) if config.kv_cache_dtype == "auto" else 1


def kv_bytes_per_token(spec: ModelSpec, element_bytes: int) -> int:
    """Bytes of one token over all layers: a key and a value per layer, KV head and dimension, or a latent per layer; 0
    of an encoder, which keeps none."""
    if spec.encoder is not None:
        return 0
    return spec.num_layers * math.prod(spec.cached_token) * element_bytes


def kv_bytes_per_block(spec: ModelSpec, block_size: int, element_bytes: int) -> int:
    """Bytes of one block, which holds some tokens in one group of layers."""
    return block_size * layers_of_a_block(spec) * math.prod(spec.cached_token) * element_bytes


def num_blocks(spec: ModelSpec, config: EngineConfig, cache_bytes: int) -> int:
    """Whole blocks in `cache_bytes`; 0 where that is negative, or where nothing is kept."""
    if spec.encoder is not None:
        return 0
    return max(cache_bytes, 0) // kv_bytes_per_block(spec, config.block_size, kv_element_size(config))


def sequence_blocks(windows: Sequence[int | None], block_size: int, length: int, new_tokens: int = 1) -> int:
    """The most blocks that a sequence of `length` tokens holds in groups of layers with those windows, while a step
    computes `new_tokens` of them."""
    return sum(most_entries(window, block_size, length, new_tokens) for window in windows)


def cache_room(spec: ModelSpec, block_size: int, blocks: int, step_tokens: int) -> int:
    """Tokens of the longest sequence that a KV cache of so many blocks holds, in whole blocks, where a step computes up
    to step_tokens of it. Of a model whose layers all have a window it is at most the model's own limit, or as many as
    there are blocks."""
    windows, size = group_windows(spec), block_size
    lengths = range(size, max(blocks, -(-spec.max_position // size)) * size + 1, size)
    return size * bisect_right(lengths, blocks, key=lambda one: sequence_blocks(windows, size, one, step_tokens))


def cpu_cache_bytes(free: int) -> int:
    """Default size of the KV cache on a CPU, with `free` bytes left beside the weights: 1 GiB, or a quarter of them
    where that is less."""
    return min(_CPU_CACHE_LIMIT, max(free, 0) // 4)


def cache_problem(config: EngineConfig, left: int, memory: int) -> str | None:
    """Why the KV cache that is asked for does not fit, where weights and reserves leave `left` bytes of `memory`."""
    if config.kv_cache_memory is None or parse_quantity(config.kv_cache_memory) <= left:
        return None
    most = f"{gigabytes(max(left, 0))}, which weights and reserves leave of {gigabytes(memory)}"
    return f"kv_cache_memory: must be at most {most}, got {config.kv_cache_memory}"


def asked_cache_bytes(config: EngineConfig, left: int, memory: int) -> int | None:
    """Size of the KV cache that is asked for, if one is; arguments as in cache_problem. Raises DoesNotFit."""
    if (problem := cache_problem(config, left, memory)) is not None:
        raise DoesNotFit(problem)
    return None if config.kv_cache_memory is None else parse_quantity(config.kv_cache_memory)


def swap_bytes(config: EngineConfig, device: str, cache_bytes: int, free: int) -> int:
    """Host memory for swapped blocks, with `free` bytes of it left and a KV cache of `cache_bytes`. Raises DoesNotFit
    where more is asked for than is free."""
    if config.preemption_mode == "recompute":
        return 0
    if config.swap_space is not None:
        asked = parse_quantity(config.swap_space)
        if asked > free:
            left = gigabytes(max(free, 0))
            raise DoesNotFit(f"swap_space: must be at most {left}, the host memory left, got {config.swap_space}")
        return asked
    return min(max(free, 0) // 8, GPU_SWAP_LIMIT if device == "cuda" else cache_bytes // 2)
