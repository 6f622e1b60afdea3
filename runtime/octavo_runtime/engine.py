"""The engine: requests in, tokens out, one step at a time."""

from itertools import count

from octavo_runtime.block_pool import BlockPool
from octavo_runtime.config import EngineConfig
from octavo_runtime.executor.executor import Executor
from octavo_runtime.messages import Load, Output, Ready
from octavo_runtime.model.files import ModelFiles, locate
from octavo_runtime.request import Request, finish_reason
from octavo_runtime.sampling_params import InvalidParameter, SamplingParams
from octavo_runtime.scheduler import Scheduler


class Engine:
    """Continuous batching over one executor. Not thread-safe: one loop calls it."""

    def __init__(self, config: EngineConfig, files: ModelFiles | None = None) -> None:
        self._executor = Executor(config, files or locate(config.model))
        self.ready: Ready = self._executor.ready
        self._eos = frozenset(self._executor.spec.eos_token_ids)
        self._scheduler = Scheduler(
            BlockPool(self.ready.num_blocks),
            block_size=self.ready.block_size,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=self._executor.max_num_batched_tokens,
        )
        self._requests: dict[str, Request] = {}
        self._arrivals = count()

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def load(self) -> Load:
        scheduler = self._scheduler
        return Load(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            blocks_used=scheduler.pool.num_used,
            blocks_total=scheduler.pool.num_blocks,
            preemptions=scheduler.preemptions,
        )

    def add_request(self, request_id: str, prompt: list[int], params: SamplingParams) -> None:
        """Queues a request; InvalidParameter when the prompt is empty, too long, or names a token that is not there."""
        if request_id in self._requests:
            raise InvalidParameter("request_id", f"must be new, got {request_id!r} again")
        room = self.ready.max_model_len - len(prompt)
        if not prompt:
            raise InvalidParameter("prompt", "must have at least 1 token, got 0")
        if room < 1:
            raise InvalidParameter(
                "prompt", f"must have at most {self.ready.max_model_len - 1} tokens, got {len(prompt)}"
            )
        if not (min(prompt) >= 0 and max(prompt) < self.ready.vocab_size):
            worst = max(prompt) if max(prompt) >= self.ready.vocab_size else min(prompt)
            raise InvalidParameter("prompt", f"token ids must be from 0 to {self.ready.vocab_size - 1}, got {worst}")
        max_tokens = min(params.max_tokens or room, room)
        request = Request(request_id, list(prompt), params, next(self._arrivals), max_tokens)
        self._requests[request_id] = request
        self._scheduler.add(request)

    def abort(self, request_id: str) -> None:
        """Ends a request in any state and frees its blocks at once; unknown ids are ignored."""
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._scheduler.remove(request)

    def step(self) -> list[Output]:
        """Computes one batch; an output for each request that got a token."""
        slices = self._scheduler.plan()
        if not slices:
            return []
        sampled = self._executor.run(slices)
        for item in slices:
            item.request.computed += item.count
        return [self._append(item.request, token) for item, token in sampled]

    def check_integrity(self) -> None:
        """Raises IntegrityError when a block leaked or is held twice."""
        self._scheduler.check_integrity()

    def _append(self, request: Request, token: int) -> Output:
        request.tokens.append(token)
        reason = finish_reason(request, self._eos, self.ready.max_model_len)
        if reason is not None:
            self.abort(request.id)
        return Output(request.id, [token], reason)
