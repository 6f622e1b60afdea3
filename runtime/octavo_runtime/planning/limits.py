"""How many tokens a step computes and a request may have: what the configuration asks for, held to what there is."""

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.presets import STEP_TOKENS

MIN_TOKENS = 16
"""The least that a KV cache must hold."""


class DoesNotFit(ValueError):
    """The configuration asks for more than the memory holds; one line with the field, the bound and the value."""


def step_tokens(config: EngineConfig, device: str) -> int:
    """Most tokens of one step on a device of that type, as said or else at least one for each row."""
    return config.max_num_batched_tokens or max(STEP_TOKENS[device], config.max_num_seqs)


def token_budget(config: EngineConfig, device: str) -> int:
    """`step_tokens`. Raises DoesNotFit where a step could not have one of each row."""
    budget = step_tokens(config, device)
    if budget < config.max_num_seqs:
        raise DoesNotFit(f"max_num_batched_tokens: must be at least max_num_seqs ({config.max_num_seqs}), got {budget}")
    return budget


def check_model_limit(config: EngineConfig, max_position: int) -> None:
    """Raises DoesNotFit where longer requests are asked for than the model was made for."""
    asked = config.max_model_len
    if asked is not None and asked > max_position:
        raise DoesNotFit(f"max_model_len: must be at most {max_position}, the model's own limit, got {asked}")


def settle_max_model_len(config: EngineConfig, max_position: int, room: int, usual: int | None = None) -> int:
    """The longest request that the engine takes: what was asked for, checked against the model's limit and the room of
    the KV cache (see cache_room), or as much as fits. usual: the most where nothing is asked for, if there is such a
    bound."""
    if room < MIN_TOKENS:
        raise DoesNotFit(
            f"kv_cache_memory: must hold at least {MIN_TOKENS} tokens, got room for {max(room, 0)}; "
            "give the KV cache more, or use a smaller model"
        )
    check_model_limit(config, max_position)
    asked = config.max_model_len
    if asked is None:
        return min(max_position, usual or max_position, room)
    if asked > room:
        raise DoesNotFit(
            f"max_model_len: must be at most {room}, the tokens that the KV cache holds, got {asked}; "
            "raise kv_cache_memory"
        )
    return asked


def encoder_max_model_len(config: EngineConfig, max_position: int, usual: int | None) -> int:
    """The same of a model without a KV cache."""
    check_model_limit(config, max_position)
    return config.max_model_len or min(max_position, usual or max_position)
