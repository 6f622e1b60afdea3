"""One step on a device: moves of blocks, the forward pass, and the sampled tokens."""

import torch

from octavo_runtime.config import EngineConfig
from octavo_runtime.executor import Masks
from octavo_runtime.executor.batch import Batch, build_batch
from octavo_runtime.executor.kv_cache import KVCache
from octavo_runtime.executor.pooling import Pooler
from octavo_runtime.executor.rows import Rows
from octavo_runtime.messages import Ready
from octavo_runtime.model.decoder import Decoder
from octavo_runtime.model.rope import rope_table
from octavo_runtime.model.spec import ModelSpec
from octavo_runtime.model.weights import Weights
from octavo_runtime.plan import num_blocks, settle_max_model_len
from octavo_runtime.sampling.logprobs import prompt_logprobs
from octavo_runtime.sampling.sampler import Draw, Sampler
from octavo_runtime.step import Sample, Slice, StepPlan, StepResult, TokenLogprobs

# Prompt tokens whose scores over the whole vocabulary are in memory at once.
_SCORED_AT_A_TIME = 256


class ModelRunner:
    """A decoder with its KV cache, the state of its rows, its sampler and its pooler. The same for all devices.

    block_bytes: size of one block of the KV cache. swap_bytes_per_second: measured speed of the way to host memory."""

    def __init__(self, decoder: Decoder, kv_cache: KVCache, rows: Rows, sampler: Sampler, max_model_len: int) -> None:
        self._decoder = decoder
        self._kv_cache = kv_cache
        self._rows = rows
        self._sampler = sampler
        self._pooler = Pooler()
        self._max_model_len = max_model_len
        self.block_bytes = kv_cache.block_bytes
        self.swap_bytes_per_second = kv_cache.swap_bytes_per_second()

    def describe(self, device: str, weight_bytes: int, load_seconds: float) -> Ready:
        """What the engine settled on, with what only the executor knows."""
        cache = self._kv_cache.device
        return Ready(
            max_model_len=self._max_model_len,
            vocab_size=self._decoder.spec.vocab_size,
            block_size=self._kv_cache.block_size,
            num_blocks=cache.shape[2],
            num_host_blocks=self._kv_cache.host.shape[2],
            device=device,
            dtype=str(cache.dtype).removeprefix("torch."),
            weight_bytes=weight_bytes,
            load_seconds=load_seconds,
            hidden_size=self._decoder.spec.hidden_size,
        )

    @torch.inference_mode()
    def run(self, plan: StepPlan, masks: Masks) -> StepResult:
        """See `Executor.run`."""
        self._kv_cache.apply(plan.moves)
        self._rows.update(plan)
        for new in plan.new_rows:
            self._sampler.set_row(new)
            self._pooler.set_row(new)
        if not plan.slices:
            return StepResult([], [])
        for item in plan.slices:
            self._sampler.extend(item.row, item.start, item.token_ids)
        cache = self._kv_cache.device
        batch = build_batch(plan.slices, self._rows.block_tables, self._kv_cache.block_size, cache.device)
        hidden = self._decoder.forward(batch, cache)
        return StepResult(
            self._draw(plan, batch, hidden, masks),
            self._score_prompts(plan, batch, hidden),
            self._pooler.pool(plan.slices, batch, hidden),
        )

    def _draw(self, plan: StepPlan, batch: Batch, hidden: torch.Tensor, masks: Masks) -> list[list[Sample]]:
        draws = [
            Draw(item.row, item.start + len(item.token_ids), sample_index)
            for item in plan.slices
            for sample_index in item.draws
        ]
        if not draws:
            return [[] for _ in plan.slices]
        last = [int(token) for item, token in zip(plan.slices, batch.last_tokens, strict=True) for _ in item.draws]
        logits = self._decoder.logits(hidden[torch.tensor(last, device=hidden.device)])
        allowed = masks()
        samples = iter(
            self._sampler.sample(
                logits, draws, None if allowed is None else torch.from_numpy(allowed).to(logits.device)
            )
        )
        return [[next(samples) for _ in item.draws] for item in plan.slices]

    def _score_prompts(self, plan: StepPlan, batch: Batch, hidden: torch.Tensor) -> list[list[TokenLogprobs]]:
        return [
            self._score_prompt(item, hidden[int(first) : int(first) + len(item.token_ids)])
            for item, first in zip(plan.slices, batch.first_tokens, strict=True)
        ]

    def _score_prompt(self, item: Slice, hidden: torch.Tensor) -> list[TokenLogprobs]:
        scored = self._rows.scored(item.row, item.start, len(item.token_ids))
        if scored is None:
            return []
        tokens, top = scored
        if not tokens:
            return []
        followers = torch.tensor(tokens, device=hidden.device).split(_SCORED_AT_A_TIME)
        return [
            entry
            for part, states in zip(followers, hidden[: len(tokens)].split(_SCORED_AT_A_TIME), strict=True)
            for entry in prompt_logprobs(self._decoder.logits(states), part, top)
        ]


def make_runner(
    config: EngineConfig,
    spec: ModelSpec,
    weights: Weights,
    device: torch.device,
    dtype: torch.dtype,
    cache_bytes: int,
    swap_bytes: int,
) -> ModelRunner:
    """A runner with a KV cache of `cache_bytes` and room for `swap_bytes` of swapped blocks. Raises DoesNotFit."""
    blocks = num_blocks(spec, config, cache_bytes)
    max_model_len = settle_max_model_len(config, spec.max_position, blocks)
    host_blocks = num_blocks(spec, config, swap_bytes)
    return ModelRunner(
        Decoder(spec, weights, rope_table(spec, max_model_len, device)),
        KVCache(spec, blocks, host_blocks, config.block_size, device, dtype),
        Rows(config.max_num_seqs, -(-max_model_len // config.block_size)),
        Sampler(config.max_num_seqs, spec.vocab_size, spec.eos_token_ids, device),
        max_model_len,
    )
