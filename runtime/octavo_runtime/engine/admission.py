"""From what is asked of the engine to a request with its place in the queue, or a refusal. Free of torch."""

from collections.abc import Callable
from itertools import count
from random import Random
from typing import NamedTuple

import msgspec

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.config.units import parse_duration
from octavo_runtime.engine.request import Request
from octavo_runtime.protocol.messages import PRIORITY_LIMIT, Ready
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import (
    InvalidParameter,
    SamplingParams,
    check_id_types,
    check_token_ids,
    check_unicode,
)

_NEVER = float("inf")


class QueueFull(RuntimeError):
    """No more requests may wait; one line with the bound."""


class Handling(NamedTuple):
    """How a request is to be treated, whatever it asks for: see messages.Add."""

    priority: int
    cache_salt: str
    timeout: float | None


class Admission:
    """Checks requests and numbers them in the order of arrival. `clock`: the engine's. `num_waiting`: how many requests
    wait now.

    Raises InvalidParameter when a prompt is empty, too long, or names a token that is not there, and QueueFull when as
    many requests as may wait do."""

    def __init__(self, config: EngineConfig, ready: Ready, clock: Callable[[], float]) -> None:
        self._config = config
        self._ready = ready
        self._clock = clock
        self._queue_timeout = parse_duration(config.queue_timeout) if config.queue_timeout else _NEVER
        self._priority_aging = parse_duration(config.priority_aging)
        self._arrivals = count()
        self._seeds = Random(config.seed)  # None: by the system's randomness, so that no two starts draw alike

    def generation(
        self, request_id: str, prompt: list[int], params: SamplingParams, handling: Handling, num_waiting: int
    ) -> Request:
        """A request for answers, which need room behind the prompt."""
        if self._ready.task.task != "generate":
            raise InvalidParameter("model", "must be one that generates text, and this one does not")
        self._check_prompt(prompt, self._ready.max_model_len - 1)
        check_token_ids(params, self._ready.vocab_size)
        room = self._ready.max_model_len - len(prompt)
        request = self._request(request_id, prompt, params, handling, num_waiting)
        request.max_tokens = min(params.max_tokens or room, room)
        if params.seed is not None:
            request.seed = params.seed
        return request

    def embedding(
        self, request_id: str, prompt: list[int], params: PoolingParams, handling: Handling, num_waiting: int
    ) -> Request:
        """A request for an embedding, whose prompt may fill the model's length."""
        self._check_prompt(prompt, self._ready.max_model_len)
        request = self._request(request_id, prompt, SamplingParams(), handling, num_waiting)
        request.pooling = self._settled(params)
        return request

    def _settled(self, params: PoolingParams) -> PoolingParams:
        """What is not asked for is as the model has it."""
        task, width = self._ready.task, self._ready.hidden_size
        if params.dimensions is not None and params.dimensions > width:
            raise InvalidParameter("dimensions", f"must be at most {width}, got {params.dimensions}")
        return msgspec.structs.replace(
            params,
            pooling=params.pooling or task.pooling,
            normalize=task.normalize if params.normalize is None else params.normalize,
        )

    def _request(
        self, request_id: str, prompt: list[int], params: SamplingParams, handling: Handling, num_waiting: int
    ) -> Request:
        _check_handling(handling)
        limit = self._config.max_queue_len
        if limit is not None and num_waiting >= limit:
            raise QueueFull(f"max_queue_len: at most {limit} requests may wait, {num_waiting} do")
        now, arrival = self._clock(), next(self._arrivals)
        by_priority = self._config.scheduling_policy == "priority"
        return Request(
            request_id,
            len(prompt),
            params,
            order=(now + handling.priority * self._priority_aging if by_priority else 0.0, arrival),
            max_tokens=0,
            # Without a seed of its own a request takes the next one of the engine's.
            seed=self._seeds.getrandbits(63),
            cache_salt=handling.cache_salt,
            arrived=now,
            queue_deadline=now + self._queue_timeout,
            deadline=_NEVER if handling.timeout is None else now + handling.timeout,
        )

    def _check_prompt(self, prompt: list[int], limit: int) -> None:
        if not prompt:
            raise InvalidParameter("prompt", "must have at least 1 token, got 0")
        if len(prompt) > limit:
            raise InvalidParameter("prompt", f"must have at most {limit} tokens, got {len(prompt)}")
        check_id_types("prompt", prompt)
        vocab_size = self._ready.vocab_size
        if not (min(prompt) >= 0 and max(prompt) < vocab_size):
            worst = max(prompt) if max(prompt) >= vocab_size else min(prompt)
            raise InvalidParameter("prompt", f"token ids must be from 0 to {vocab_size - 1}, got {worst}")


def _check_handling(handling: Handling) -> None:
    priority, cache_salt, timeout = handling
    if not -PRIORITY_LIMIT <= priority <= PRIORITY_LIMIT:
        raise InvalidParameter("priority", f"must be from {-PRIORITY_LIMIT} to {PRIORITY_LIMIT}, got {priority}")
    check_unicode("cache_salt", cache_salt)
    if timeout is not None and not timeout > 0:
        raise InvalidParameter("timeout", f"must be above 0 seconds, got {timeout}")
