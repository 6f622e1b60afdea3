"""The engine's memory arithmetic, free of torch: what a block of the KV cache costs, and how long a request may be."""

from octavo_runtime.config import EngineConfig
from octavo_runtime.model.spec import ModelSpec

_TOKEN_BUDGETS = {"cuda": 8192, "cpu": 512}


class DoesNotFit(ValueError):
    """The configuration asks for more than the memory holds; one line with the field, the bound and the value."""


def kv_bytes_per_block(spec: ModelSpec, block_size: int, element_bytes: int) -> int:
    """Bytes of one block over all layers: a key and a value per layer, slot, KV head and dimension."""
    return spec.num_layers * 2 * block_size * spec.num_kv_heads * spec.head_dim * element_bytes


def token_budget(config: EngineConfig, device: str) -> int:
    """Most tokens of one step on a device of that type, and at least one for each row."""
    budget = config.max_num_batched_tokens or max(_TOKEN_BUDGETS[device], config.max_num_seqs)
    if budget < config.max_num_seqs:
        raise DoesNotFit(f"max_num_batched_tokens: must be at least max_num_seqs ({config.max_num_seqs}), got {budget}")
    return budget


def settle_max_model_len(config: EngineConfig, max_position: int, num_blocks: int) -> int:
    """The longest request that the engine takes: what was asked for, checked against the model's limit and the KV
    cache."""
    room = num_blocks * config.block_size
    if room < 16:
        raise DoesNotFit(
            f"kv_cache_memory: must hold at least 16 tokens, got room for {max(room, 0)}; "
            "give the KV cache more, or use a smaller model"
        )
    asked = config.max_model_len
    if asked is None:
        return min(max_position, room)
    if asked > max_position:
        raise DoesNotFit(f"max_model_len: must be at most {max_position}, the model's own limit, got {asked}")
    if asked > room:
        raise DoesNotFit(
            f"max_model_len: must be at most {room}, the tokens that the KV cache holds, got {asked}; "
            "raise kv_cache_memory"
        )
    return asked
