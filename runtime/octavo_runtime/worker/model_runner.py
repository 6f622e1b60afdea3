"""One step on a device: moves of blocks, the forward pass, and the sampled tokens."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from octavo_kernels.draw_tokens import Newest, draw_tokens
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.distributed.group import Team, agreed
from octavo_runtime.layers.batch import Batch
from octavo_runtime.models.decoder import Decoder
from octavo_runtime.models.kv_scales import CACHE_TYPES
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.planning.kv_cache import cache_room, num_blocks
from octavo_runtime.planning.limits import settle_max_model_len, token_budget
from octavo_runtime.planning.reserves import MOST_CAPTURED, MOST_CAPTURED_TOKENS
from octavo_runtime.protocol.messages import Ready
from octavo_runtime.protocol.step import Masks, Sample, Slice, StepPlan, StepResult, TokenLogprobs
from octavo_runtime.sampling.logprobs import prompt_logprobs
from octavo_runtime.sampling.sampler import Draw, Sampler
from octavo_runtime.worker.batch import build_batch
from octavo_runtime.worker.decode_graphs import DecodeGraphs, Drawn, padded_size
from octavo_runtime.worker.executor import Launched
from octavo_runtime.worker.graph_arena import reserve
from octavo_runtime.worker.guesses import masks_one_by_one, one_by_one, put_together
from octavo_runtime.worker.kv_cache import KVCache
from octavo_runtime.worker.pooling import Pooler
from octavo_runtime.worker.rows import Rows
from octavo_runtime.worker.sending import send
from octavo_runtime.worker.token_graphs import TokenGraphs, padded_tokens

# Prompt tokens whose scores over the whole vocabulary are in memory at once.
_SCORED_AT_A_TIME = 256


class ModelRunner:
    """The Executor of one device: a decoder with its KV cache, the state of its rows, its sampler and its pooler. The
    same for all devices, but that a GPU's steps run as graphs, and that they lead where every row draws plainly. A
    stage of a pipeline that is not the last brings nothing.

    block_bytes: size of one block of the KV cache. swap_bytes_per_second: measured speed of the way to host memory."""

    depth = 1

    def __init__(
        self,
        decoder: Decoder,
        kv_cache: KVCache,
        rows: Rows,
        sampler: Sampler,
        graphs: DecodeGraphs | None,
        token_graphs: TokenGraphs | None,
        *,
        max_model_len: int,
        max_num_batched_tokens: int,
        device: str,
        started: float,
    ) -> None:
        """device: its name. started: when loading began, in seconds of `perf_counter`."""
        self.spec = decoder.spec
        self.max_num_batched_tokens = max_num_batched_tokens
        self._decoder = decoder
        self._kv_cache = kv_cache
        self._rows = rows
        self._sampler = sampler
        self._pooler = Pooler(decoder.text_head)
        self._graphs = graphs
        self._token_graphs = token_graphs
        self.block_bytes = kv_cache.block_bytes
        self.swap_bytes_per_second = kv_cache.swap_bytes_per_second()
        self.ready = Ready(
            max_model_len=max_model_len,
            vocab_size=self.spec.vocab_size,
            block_size=kv_cache.block_size,
            num_blocks=kv_cache.device.shape[2],
            num_host_blocks=kv_cache.host.shape[2],
            device=device,
            dtype=str(decoder.embedding.weight.dtype).removeprefix("torch."),
            weight_bytes=decoder.num_bytes,
            load_seconds=time.perf_counter() - started,
            hidden_size=decoder.text_head.width(self.spec.word_size),
            task=decoder.task,
            layer_groups=len(group_windows(self.spec)),
        )

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> Launched:
        """See `Executor.launch`."""
        self._kv_cache.apply(plan.moves)
        self._rows.update(plan)
        for new in plan.new_rows:
            self._sampler.set_row(new)
            self._pooler.set_row(new)
        if self._graphs is not None:
            self._graphs.note(plan.tables)
        if not plan.slices:
            return Launched(lambda _: StepResult([]))
        for item in plan.slices:
            if item.guesses or item.accepted:
                self._sampler.extend(item.row, item.start - len(item.accepted), item.accepted + item.known)
            else:
                self._sampler.extend(item.row, item.start, item.token_ids)
        if not any(item.guesses for item in plan.slices):
            return self._start(plan.slices, masked=plan.masked)
        launched = self._start(one_by_one(plan.slices), masked=plan.masked)
        return Launched(partial(_checked, plan.slices, launched))

    def _start(self, slices: list[Slice], *, masked: bool) -> Launched:
        """Computes slices without guesses, and draws. masked: not every token may be drawn."""
        graphs = self._graphs
        scores_plainly = not self._scores_or_pools(slices)
        draws = self._decoder.head is not None
        leads = draws and graphs is not None and not masked and scores_plainly and self._draws_plainly(slices)
        if graphs is not None and scores_plainly and _only_decodes(slices, graphs.most_sequences):
            order = self._rows.side_by_side(np.array([item.row for item in slices]))
            ordered = slices if order is None else [slices[index] for index in order]
            drawn = self._decode(ordered, graphs)
            if not draws:
                return Launched(lambda _: StepResult([]))
            if leads:
                return Launched(partial(_tell, slices, _put_back(fetch(drawn.tokens), order)), leads=True)
            hidden = drawn.hidden if order is None else drawn.hidden[torch.from_numpy(np.argsort(order))]
            return Launched(partial(self._draw_again, slices, hidden))
        newest = None if graphs is None else graphs.newest
        batch, hidden = self._forward(slices, newest, draws_alone=draws and scores_plainly)
        if not draws:
            return Launched(lambda _: StepResult([]))
        if leads and newest is not None:
            return Launched(partial(_tell, slices, self._draw_newest(slices, batch, hidden, newest)), leads=True)
        return Launched(partial(self._finish, slices, batch, hidden))

    @torch.inference_mode()
    def prepare(self) -> bool:
        """See `Executor.prepare`."""
        return (self._graphs is not None and self._graphs.capture_next()) or (
            self._token_graphs is not None and self._token_graphs.capture_next()
        )

    def close(self) -> None:
        """Gives back what must be gone before the ranks of a model part: the graphs in which they talk to each other.
        Nothing is launched afterwards."""
        self._graphs = self._token_graphs = None

    def _forward(
        self, slices: list[Slice], newest: torch.Tensor | None, *, draws_alone: bool
    ) -> tuple[Batch, torch.Tensor]:
        """The slices packed, and the hidden states of their tokens, or of those that draw."""
        graphs, cache = self._token_graphs, self._kv_cache
        size = None if graphs is None else graphs.size_for(sum(len(item.token_ids) for item in slices))
        tables, device = self._rows.block_tables, cache.device.device
        drawing_size = self._drawing_size if draws_alone else None
        batch = build_batch(slices, tables, cache.block_size, device, newest, size, drawing_size)
        if graphs is None or size is None:
            return batch, self._decoder.forward(batch, cache.device)
        return batch, graphs.forward(batch)

    def _drawing_size(self, count: int) -> int:
        """The number of tokens that `count` are drawn with: one that decode steps are captured for."""
        captured = 0 if self._graphs is None else self._graphs.most_sequences
        return padded_size(count) if count <= captured else count

    def _scores_or_pools(self, slices: list[Slice]) -> bool:
        """Whether more is wanted of any slice than the tokens that it draws."""
        return (
            self._rows.scores_prompts
            and any(self._rows.scored(one.row, one.start, len(one.token_ids)) is not None for one in slices)
        ) or (self._pooler.is_busy and any(self._pooler.has(one.row) for one in slices))

    def _draws_plainly(self, slices: list[Slice]) -> bool:
        """Whether no row draws more than one token, and each by its scores and temperature alone."""
        return all(len(item.draws) <= 1 for item in slices) and self._sampler.draws_plainly(
            np.array([item.row for item in slices if item.draws], dtype=np.int64)
        )

    def _decode(self, slices: list[Slice], graphs: DecodeGraphs) -> Drawn:
        rows = np.array([item.row for item in slices])
        draws = [item.draws[0] for item in slices]
        return graphs.run(slices, *self._sampler.race(rows, draws, [item.start + 1 for item in slices]))

    @torch.inference_mode()
    def _draw_again(self, slices: list[Slice], hidden: torch.Tensor, masks: Masks | None) -> StepResult:
        """Draws from a graph's hidden states, where some rows draw by more than their scores."""
        draws = [Draw(item.row, item.start + 1, item.draws[0]) for item in slices]
        samples = self._sampler.sample(self._decoder.logits(hidden), draws, _bits(masks, hidden.device))
        return StepResult([[one] for one in samples])

    def _draw_newest(
        self, slices: list[Slice], batch: Batch, hidden: torch.Tensor, newest: torch.Tensor
    ) -> Callable[[], list[int]]:
        """Draws the slices' tokens into the rows' newest, and fetches them."""
        drawing = [(index, item) for index, item in enumerate(slices) if item.draws]
        if not drawing:
            return list
        rows = np.array([item.row for _, item in drawing])
        last = batch.last_states[[index for index, _ in drawing]]
        temperatures, keys = self._sampler.race(
            rows,
            [item.draws[0] for _, item in drawing],
            [item.start + len(item.token_ids) for _, item in drawing],
        )
        last = np.pad(last, (0, self._drawing_size(len(last)) - len(last)))
        where, drawn_rows, temperatures_there, keys_there = send(hidden.device, last, rows, temperatures, keys)
        scores = self._decoder.scores(hidden[where])[: len(rows)]
        kept = Newest(newest, drawn_rows)
        return fetch(draw_tokens(scores, temperatures_there, keys_there, self._sampler.hashes, newest=kept))

    @torch.inference_mode()
    def _finish(self, slices: list[Slice], batch: Batch, hidden: torch.Tensor, masks: Masks | None) -> StepResult:
        return StepResult(
            self._draw(slices, batch, hidden, masks),
            self._score_prompts(slices, batch, hidden),
            self._pooler.pool(slices, batch, hidden),
        )

    def _draw(self, slices: list[Slice], batch: Batch, hidden: torch.Tensor, masks: Masks | None) -> list[list[Sample]]:
        draws = [
            Draw(item.row, item.start + len(item.token_ids), sample_index)
            for item in slices
            for sample_index in item.draws
        ]
        if not draws:
            return [[] for _ in slices]
        last = [int(place) for item, place in zip(slices, batch.last_states, strict=True) for _ in item.draws]
        logits = self._decoder.logits(hidden[torch.tensor(last, device=hidden.device)])
        samples = iter(self._sampler.sample(logits, draws, _bits(masks, logits.device)))
        return [[next(samples) for _ in item.draws] for item in slices]

    def _score_prompts(self, slices: list[Slice], batch: Batch, hidden: torch.Tensor) -> dict[int, list[TokenLogprobs]]:
        if not self._rows.scores_prompts:
            return {}
        scored = [self._rows.scored(item.row, item.start, len(item.token_ids)) for item in slices]
        return {
            index: self._score_prompt(*of_slice, hidden[int(batch.first_tokens[index]) :])
            for index, of_slice in enumerate(scored)
            if of_slice is not None
        }

    def _score_prompt(self, tokens: list[int], top: int, hidden: torch.Tensor) -> list[TokenLogprobs]:
        """tokens: the successors of the first hidden states."""
        followers = torch.tensor(tokens, device=hidden.device).split(_SCORED_AT_A_TIME)
        return [
            entry
            for part, states in zip(followers, hidden[: len(tokens)].split(_SCORED_AT_A_TIME), strict=True)
            for entry in prompt_logprobs(self._decoder.logits(states), part, top)
        ]


def fetch(tokens: torch.Tensor) -> Callable[[], list[int]]:
    """Copies tokens [n] to the host behind what their device has to do already; what is returned waits for them."""
    if tokens.device.type == "cpu":
        return tokens.clone().tolist
    copied, done = tokens.to("cpu", non_blocking=True), torch.cuda.Event()
    done.record()

    def wait() -> list[int]:
        done.synchronize()
        return copied.tolist()

    return wait


def _put_back(fetched: Callable[[], list[int]], order: npt.NDArray[np.int64] | None) -> Callable[[], list[int]]:
    """What was fetched in this order, as it was before it was put into it."""
    return fetched if order is None else lambda: np.array(fetched())[np.argsort(order)].tolist()


def _tell(slices: list[Slice], fetched: Callable[[], list[int]], _: None) -> StepResult:
    """The result of a step that led, whose tokens may be any."""
    tokens = iter(fetched())
    return StepResult([[Sample(next(tokens)) for _ in item.draws] for item in slices])


def _checked(slices: list[Slice], launched: Launched, masks: Masks | None) -> StepResult:
    """The result of slices with guesses, which were launched one by one."""
    return put_together(slices, launched.result(None if masks is None else masks_one_by_one(slices, masks)))


def _bits(masks: Masks | None, device: torch.device) -> torch.Tensor | None:
    return None if masks is None else torch.from_numpy(masks).to(device)


def _only_decodes(slices: list[Slice], most: int) -> bool:
    """Whether there are at most so many slices, each of one token from which one is drawn."""
    return len(slices) <= most and all(len(item.token_ids) == 1 and len(item.draws) == 1 for item in slices)


def make_runner(
    config: EngineConfig,
    decoder: Decoder,
    cache_bytes: int,
    swap_bytes: int,
    team: Team | None,
    *,
    device: str,
    started: float,
) -> ModelRunner:
    """A runner with a KV cache of `cache_bytes` and room for `swap_bytes` of swapped blocks, of a team as many blocks
    as all of its ranks have. device, started: see ModelRunner. Raises DoesNotFit."""
    spec, weight = decoder.spec, decoder.embedding.weight
    blocks = agreed(team, num_blocks(spec, config, cache_bytes))
    budget = token_budget(config, weight.device.type)
    room = cache_room(spec, config.block_size, blocks, budget)
    max_model_len = settle_max_model_len(config, spec.max_position, room, decoder.task.max_length)
    host_blocks = agreed(team, num_blocks(spec, config, swap_bytes))
    max_blocks = -(-max_model_len // config.block_size)
    decoder.reach(max_model_len)
    cache_type = CACHE_TYPES.get(config.kv_cache_dtype, weight.dtype)
    kv_cache = KVCache(spec, blocks, host_blocks, config.block_size, weight.device, cache_type)
    sampler = Sampler(config.max_num_seqs, spec.vocab_size, spec.eos_token_ids, weight.device)
    graphs = token_graphs = None
    if weight.device.type == "cuda":
        sequences, tokens = min(config.max_num_seqs, MOST_CAPTURED), min(budget, MOST_CAPTURED_TOKENS)
        arena = reserve(spec, weight, padded_size(sequences), padded_tokens(tokens))
        under_way = max(config.pipeline_parallel_size, 2)
        graphs = DecodeGraphs(
            decoder, kv_cache.device, sampler.hashes, config.max_num_seqs, max_blocks, arena, under_way
        )
        token_graphs = TokenGraphs(decoder, kv_cache.device, arena, budget)
    return ModelRunner(
        decoder,
        kv_cache,
        Rows(len(group_windows(spec)), config.max_num_seqs, max_blocks),
        sampler,
        graphs,
        token_graphs,
        max_model_len=max_model_len,
        max_num_batched_tokens=budget,
        device=device,
        started=started,
    )
