"""One step on a device: moves of blocks, the forward pass, and the sampled tokens."""

import numpy as np
import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.layers.batch import Batch
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.planning.memory import num_blocks, settle_max_model_len
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.protocol.step import Sample, Slice, StepPlan, StepResult, TokenLogprobs
from octavo_runtime.sampling.logprobs import prompt_logprobs
from octavo_runtime.sampling.sampler import Draw, Sampler
from octavo_runtime.worker.batch import build_batch
from octavo_runtime.worker.decode_graphs import DecodeGraphs
from octavo_runtime.worker.executor import Masks
from octavo_runtime.worker.kv_cache import KVCache
from octavo_runtime.worker.pooling import Pooler
from octavo_runtime.worker.rows import Rows

# Prompt tokens whose scores over the whole vocabulary are in memory at once.
_SCORED_AT_A_TIME = 256


class ModelRunner:
    """A decoder with its KV cache, the state of its rows, its sampler and its pooler. The same for all devices, but
    that a GPU's decode steps run as graphs.

    block_bytes: size of one block of the KV cache. swap_bytes_per_second: measured speed of the way to host memory."""

    def __init__(
        self,
        decoder: Decoder,
        kv_cache: KVCache,
        rows: Rows,
        sampler: Sampler,
        max_model_len: int,
        graphs: DecodeGraphs | None,
    ) -> None:
        self._decoder = decoder
        self._kv_cache = kv_cache
        self._rows = rows
        self._sampler = sampler
        self._pooler = Pooler()
        self._max_model_len = max_model_len
        self._graphs = graphs
        self.block_bytes = kv_cache.block_bytes
        self.swap_bytes_per_second = kv_cache.swap_bytes_per_second()

    def describe(self, device: str, load_seconds: float) -> Ready:
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
            weight_bytes=self._decoder.num_bytes,
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
        if self._graphs is not None:
            self._graphs.note(plan.tables)
        if not plan.slices:
            return StepResult([], [])
        for item in plan.slices:
            self._sampler.extend(item.row, item.start, item.token_ids)
        if self._graphs is not None and self._only_decodes(plan.slices, self._graphs.most_sequences):
            return self._decode(plan.slices, self._graphs, masks)
        cache = self._kv_cache.device
        batch = build_batch(plan.slices, self._rows.block_tables, self._kv_cache.block_size, cache.device)
        hidden = self._decoder.forward(batch, cache)
        return StepResult(
            self._draw(plan, batch, hidden, masks),
            self._score_prompts(plan, batch, hidden),
            self._pooler.pool(plan.slices, batch, hidden),
        )

    def _only_decodes(self, slices: list[Slice], most: int) -> bool:
        """Whether each slice is one token from which one is drawn, and no prompt's token is looked at."""
        return (
            len(slices) <= most
            and all(len(item.token_ids) == 1 and len(item.draws) == 1 for item in slices)
            and not (self._rows.scores_prompts and any(self._rows.scored(one.row, one.start, 1) for one in slices))
            and not (self._pooler.is_busy and any(self._pooler.has(one.row) for one in slices))
        )

    def _decode(self, slices: list[Slice], graphs: DecodeGraphs, masks: Masks) -> StepResult:
        rows = np.array([item.row for item in slices])
        draws = [item.draws[0] for item in slices]
        temperatures, keys = self._sampler.race(rows, draws, [item.start + 1 for item in slices])
        drawn = graphs.run(slices, temperatures, keys)
        allowed = masks()
        if allowed is None and self._sampler.draws_plainly(rows):
            samples = [[Sample(token)] for token in drawn.tokens.tolist()]
        else:
            asked = [Draw(item.row, item.start + 1, draw) for item, draw in zip(slices, draws, strict=True)]
            bits = None if allowed is None else torch.from_numpy(allowed).to(drawn.logits.device)
            samples = [[one] for one in self._sampler.sample(drawn.logits.float(), asked, bits)]
        return StepResult(samples, [[] for _ in slices])

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
        followers = torch.tensor(tokens, device=hidden.device).split(_SCORED_AT_A_TIME)
        return [
            entry
            for part, states in zip(followers, hidden[: len(tokens)].split(_SCORED_AT_A_TIME), strict=True)
            for entry in prompt_logprobs(self._decoder.logits(states), part, top)
        ]


def make_runner(config: EngineConfig, decoder: Decoder, cache_bytes: int, swap_bytes: int) -> ModelRunner:
    """A runner with a KV cache of `cache_bytes` and room for `swap_bytes` of swapped blocks. Raises DoesNotFit."""
    spec, weight = decoder.spec, decoder.embedding.weight
    blocks = num_blocks(spec, config, cache_bytes)
    max_model_len = settle_max_model_len(config, spec.max_position, blocks)
    host_blocks = num_blocks(spec, config, swap_bytes)
    max_blocks = -(-max_model_len // config.block_size)
    decoder.rotary.reach(max_model_len)
    kv_cache = KVCache(spec, blocks, host_blocks, config.block_size, weight.device, weight.dtype)
    sampler = Sampler(config.max_num_seqs, spec.vocab_size, spec.eos_token_ids, weight.device)
    graphs = None
    if weight.device.type == "cuda":
        graphs = DecodeGraphs(decoder, kv_cache.device, sampler.hashes, config.max_num_seqs, max_blocks)
    return ModelRunner(decoder, kv_cache, Rows(config.max_num_seqs, max_blocks), sampler, max_model_len, graphs)
