"""The engine: requests in, tokens out, one step at a time."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from octavo_runtime.admission import Admission, Handling
from octavo_runtime.beam_search import BeamSearch
from octavo_runtime.beams import Beams
from octavo_runtime.block_pool import BlockPool
from octavo_runtime.block_tables import BlockTables
from octavo_runtime.config import EngineConfig
from octavo_runtime.executor import make_executor
from octavo_runtime.messages import BlockMap, Load, Output, Ready, RequestError
from octavo_runtime.model.files import ModelFiles, locate
from octavo_runtime.pooling_params import PoolingParams
from octavo_runtime.preemption import PreemptionCost
from octavo_runtime.request import Request, Sequence, finish_reason
from octavo_runtime.sampling_params import InvalidParameter, SamplingParams
from octavo_runtime.scheduler import Schedule, Scheduler
from octavo_runtime.step import Sample, StepPlan, TokenLogprobs
from octavo_runtime.step_pace import StepPace
from octavo_runtime.structured.grammars import Grammar, GrammarFailed, Grammars, GrammarsBusy
from octavo_runtime.tokenizer import load_tokenizer
from octavo_runtime.tokenizer_conversion import tokenizer_files
from octavo_runtime.tokenizer_files import TokenizerUnavailable

# How long a step waits for grammars to compile when there is nothing else to do.
_IDLE_WAIT_SECONDS = 0.005


@dataclass(eq=False)
class _Life:
    """What the engine keeps of a request until it ends."""

    request: Request
    sequences: list[Sequence]
    beams: Beams | None = None
    compiling: Future[Grammar] | None = None
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    queued: float | None = None  # seconds from its arrival to its first step
    told: bool = False  # whether an output has carried what comes once a request


class Engine:
    """Continuous batching over one executor. Not thread-safe: one loop calls it.

    `clock`: seconds that never go back; queue limits and deadlines are measured by it."""

    def __init__(
        self, config: EngineConfig, files: ModelFiles | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        files = files or locate(config.model)
        self._executor = make_executor(config, files)
        self.ready: Ready = self._executor.ready
        self._config = config
        self._clock = clock
        self._eos = frozenset(self._executor.spec.eos_token_ids)
        self._cost = PreemptionCost(
            config.preemption_mode,
            self.ready.block_size,
            self._executor.block_bytes,
            self._executor.swap_bytes_per_second,
        )
        self._pace = StepPace(self._executor.max_num_batched_tokens)
        self._tables = BlockTables(
            BlockPool(self.ready.num_blocks),
            BlockPool(self.ready.num_host_blocks),
            self.ready.block_size,
            prefix_caching=config.enable_prefix_caching,
        )
        self._scheduler = Scheduler(
            self._tables,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=self._executor.max_num_batched_tokens,
            preemption_mode=self._cost.mode,
        )
        self._admission = Admission(config, self.ready, clock)
        self._lives: dict[str, _Life] = {}
        self._grammars = Grammars(
            lambda: load_tokenizer(tokenizer_files(config, files)), self.ready.vocab_size, tuple(self._eos)
        )
        self._grammar_of: dict[Sequence, Grammar] = {}
        self._mask_thread = ThreadPoolExecutor(1, thread_name_prefix="masks")

    @property
    def has_work(self) -> bool:
        return bool(self._lives)

    def __contains__(self, request_id: str) -> bool:
        """Whether a request has not ended yet."""
        return request_id in self._lives

    @property
    def patience(self) -> float:
        """Seconds after which the step under way, or the next one, counts as hung."""
        return self._pace.patience

    @property
    def load(self) -> Load:
        scheduler, tables = self._scheduler, self._tables
        return Load(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + sum(life.compiling is not None for life in self._lives.values()),
            swapped=sum(sequence.is_swapped for sequence in scheduler.waiting),
            blocks_used=tables.pool.num_used,
            blocks_cached=tables.pool.num_cached,
            blocks_total=tables.pool.num_blocks,
            slots_wasted=tables.slots_wasted(scheduler.running),
            recomputes=scheduler.preemptions.recompute,
            swaps=scheduler.preemptions.swap,
            prefix_queries=tables.prefix_queries,
            prefix_hits=tables.prefix_hits,
        )

    def add_request(
        self,
        request_id: str,
        prompt: list[int],
        params: SamplingParams,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timeout: float | None = None,
    ) -> None:
        """Queues a request (see messages.Add for what the arguments mean).

        Raises InvalidParameter when the prompt is empty, too long, or names a token that is not there, and QueueFull
        when as many requests as may wait do."""
        prompt = params.truncate(prompt)
        self._check_new(request_id)
        handling = Handling(priority, cache_salt, timeout)
        request = self._admission.generation(request_id, prompt, params, handling, len(self._scheduler.waiting))
        first = Sequence(request, list(prompt), draws=list(range(params.num_answers)))
        life = _Life(request, [first])
        if params.beam_width is not None:
            first.draws = [0]
            search = BeamSearch(params.beam_width, params.length_penalty, params.early_stopping)
            life.beams = Beams(request, [first], search, self._end_tokens(params), self.ready.max_model_len)
        self._lives[request_id] = life
        if params.structured_outputs is None:
            self._scheduler.add(first)
        else:
            life.compiling = self._grammars.compile(params.structured_outputs)

    def add_embedding(
        self,
        request_id: str,
        prompt: list[int],
        params: PoolingParams,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timeout: float | None = None,
    ) -> None:
        """Queues a request for the embedding of a prompt, which may fill the model's length. Raises as add_request
        does."""
        self._check_new(request_id)
        handling = Handling(priority, cache_salt, timeout)
        request = self._admission.embedding(request_id, prompt, params, handling, len(self._scheduler.waiting))
        sequence = Sequence(request, list(prompt), draws=[])
        self._lives[request_id] = _Life(request, [sequence])
        self._scheduler.add(sequence)

    def abort(self, request_id: str, index: int | None = None) -> None:
        """Ends a request in any state, or only its answer `index`, and frees the blocks at once; unknown ids are
        ignored."""
        life = self._lives.get(request_id)
        if life is None:
            return
        if index is not None and life.beams is None and life.sequences[0].draws == [life.sequences[0].index]:
            for sequence in [one for one in life.sequences if one.index == index]:
                self._end(life, sequence)
            return
        del self._lives[request_id]
        if life.compiling is not None:
            life.compiling.cancel()
            return
        for sequence in life.beams.live if life.beams else life.sequences:
            self._scheduler.remove(sequence)
            self._grammar_of.pop(sequence, None)

    def step(self) -> list[Output]:
        """Computes one batch; outputs for the requests that got tokens or ended."""
        outputs = [*self._start_compiled(), *self._expire()]
        schedule = self._scheduler.plan(self._pace.prompt_tokens)
        if not schedule.plan.moves and not schedule.sequences:
            return outputs
        masks = self._masks(schedule)
        now, started = self._clock(), time.perf_counter()
        result = self._executor.run(schedule.plan, masks)
        self._observe(schedule.plan, time.perf_counter() - started)
        self._scheduler.commit(schedule)
        for sequence, item, samples, scores in zip(
            schedule.sequences, schedule.plan.slices, result.samples, result.prompt_logprobs, strict=True
        ):
            life = self._lives.get(sequence.request.id)
            if life is not None:
                if life.queued is None:
                    life.queued = now - life.request.arrived
                if scores and not life.told:
                    # A prompt that was preempted half-way is computed again from its start.
                    life.prompt_logprobs[item.start :] = scores
                outputs += self._grow(life, sequence, samples)
        for index, embedding in result.embeddings.items():
            outputs.append(self._embedded(schedule.sequences[index], embedding))
        return outputs

    def block_map(self) -> BlockMap:
        """Who holds which block now."""
        running, pool = self._scheduler.running, self._tables.pool
        partly = self._tables.partly_filled(running)
        blocks = range(pool.num_blocks)
        return BlockMap(
            block_size=self.ready.block_size,
            references=[pool.references(block) for block in blocks],
            cached=[pool.is_cached(block) for block in blocks],
            filled=[
                partly.get(block, self.ready.block_size if pool.references(block) or pool.is_cached(block) else 0)
                for block in blocks
            ],
            tables={f"{one.request.id}/{one.index}": list(one.block_table) for one in running},
        )

    def check_integrity(self) -> None:
        """Raises IntegrityError when a block leaked or is held twice."""
        self._scheduler.check_integrity()

    def _check_new(self, request_id: str) -> None:
        if request_id in self._lives:
            raise InvalidParameter("request_id", f"must be new, got {request_id!r} again")

    def _end_tokens(self, params: SamplingParams) -> frozenset[int]:
        return frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else self._eos)

    def _start_compiled(self) -> list[Output]:
        """Queues the requests whose grammar has compiled, and ends those whose grammar cannot."""
        compiling = [life for life in self._lives.values() if life.compiling is not None]
        if compiling and len(compiling) == len(self._lives):
            wait([life.compiling for life in compiling if life.compiling], _IDLE_WAIT_SECONDS, FIRST_COMPLETED)
        outputs = []
        for life in compiling:
            if life.compiling is None or not life.compiling.done():
                continue
            try:
                grammar = life.compiling.result()
            except (InvalidParameter, GrammarsBusy, TokenizerUnavailable) as error:
                outputs.append(self._fail(life, _refusal(error)))
                continue
            life.compiling = None
            [first] = life.sequences
            self._grammar_of[first] = grammar
            self._scheduler.add(first)
        return outputs

    def _expire(self) -> list[Output]:
        """Ends the requests whose time is over."""
        now, outputs = self._clock(), []
        for life in list(self._lives.values()):
            request = life.request
            if now >= request.deadline:
                late = RequestError("deadline", "timeout: the request did not end within its time limit")
                outputs.append(self._fail(life, late))
            elif now >= request.queue_deadline and not life.sequences[0].started:
                limit = self._config.queue_timeout
                stale = RequestError("queue_timeout", f"queue_timeout: the request waited over {limit}")
                outputs.append(self._fail(life, stale))
        return outputs

    def _observe(self, plan: StepPlan, seconds: float) -> None:
        """Learns from how long a step took."""
        counts = [len(item.token_ids) for item in plan.slices]
        self._cost.observe(sum(counts), seconds)
        self._pace.observe(sum(counts), sum(count for count in counts if count > 1), seconds)

    def _masks(self, schedule: Schedule) -> Callable[[], npt.NDArray[np.int32] | None]:
        """Works out the tokens that grammars allow while the device computes."""
        drawing = [
            (self._grammar_of.get(sequence), len(item.draws))
            for sequence, item in zip(schedule.sequences, schedule.plan.slices, strict=True)
            if item.draws
        ]
        if not any(grammar for grammar, _ in drawing):
            return lambda: None
        # A sequence that is about to fork draws several tokens from one state.
        filled = self._mask_thread.submit(self._grammars.fill_masks, [grammar for grammar, _ in drawing])
        return lambda: np.repeat(filled.result(), [draws for _, draws in drawing], axis=0)

    def _grow(self, life: _Life, sequence: Sequence, samples: list[Sample]) -> list[Output]:
        """What one sequence's drawn tokens bring."""
        if not samples:
            return []
        if life.beams is not None:
            return self._grow_beams(life, life.beams, sequence, samples[0])
        grown = [sequence, *(self._fork(life, sequence, index) for index in sequence.draws[1:])]
        sequence.draws = [sequence.index]
        outputs: list[Output] = []
        for one, sample in zip(grown, samples, strict=True):
            try:
                outputs.append(self._append(life, one, sample))
            except GrammarFailed as error:
                failed = RequestError("invalid", f"structured_outputs: {error}", "structured_outputs")
                return [*outputs, self._fail(life, failed)]
        return outputs

    def _grow_beams(self, life: _Life, beams: Beams, sequence: Sequence, sample: Sample) -> list[Output]:
        assert sample.logprobs is not None
        beams.take(sequence, sample.logprobs, self._scheduler)
        if not beams.search.done:
            return []
        del self._lives[life.request.id]
        return beams.outputs(sequence.cached_tokens, life.queued)

    def _fork(self, life: _Life, parent: Sequence, index: int) -> Sequence:
        child = parent.fork(index)
        self._scheduler.fork(parent, child)
        if parent in self._grammar_of:
            self._grammar_of[child] = self._grammar_of[parent].fork()
        life.sequences.append(child)
        return child

    def _append(self, life: _Life, sequence: Sequence, sample: Sample) -> Output:
        sequence.tokens.append(sample.token_id)
        grammar = self._grammar_of.get(sequence)
        if grammar is not None:
            grammar.accept([sample.token_id])
        reason = finish_reason(sequence, self._eos, self.ready.max_model_len)
        if reason is None and grammar is not None and sample.token_id in self._eos:
            reason = "stop"  # whatever ignore_eos says: the grammar lets nothing follow
        if reason is not None:
            self._end(life, sequence)
        prompt_logprobs = life.prompt_logprobs if life.request.params.prompt_logprobs is not None else None
        output = Output(
            life.request.id,
            [sample.token_id],
            reason,
            index=sequence.index,
            logprobs=None if sample.logprobs is None else [sample.logprobs],
            prompt_logprobs=None if life.told else prompt_logprobs,
            cached_tokens=0 if life.told else sequence.cached_tokens,
            queued=None if life.told else life.queued,
        )
        life.told = True
        return output

    def _embedded(self, sequence: Sequence, embedding: bytes) -> Output:
        request_id = sequence.request.id
        life = self._lives[request_id]
        self._end(life, sequence)
        return Output(
            request_id, [], "stop", cached_tokens=sequence.cached_tokens, embedding=embedding, queued=life.queued
        )

    def _end(self, life: _Life, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        self._grammar_of.pop(sequence, None)
        life.sequences.remove(sequence)
        if not life.sequences:
            del self._lives[life.request.id]

    def _fail(self, life: _Life, error: RequestError) -> Output:
        self.abort(life.request.id)
        return Output(life.request.id, [], "error", error=error)


def _refusal(error: InvalidParameter | GrammarsBusy | TokenizerUnavailable) -> RequestError:
    """Why a grammar did not compile."""
    match error:
        case GrammarsBusy():
            return RequestError("overloaded", str(error))
        case InvalidParameter():
            return RequestError("invalid", str(error), error.field)
        case _:
            return RequestError("invalid", f"structured_outputs: needs the tokenizer: {error}", "structured_outputs")
