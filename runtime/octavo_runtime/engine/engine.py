"""The engine: requests in, tokens out, one step at a time."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.admission import Admission, Handling
from octavo_runtime.engine.beam_search import BeamSearch
from octavo_runtime.engine.beams import Beams
from octavo_runtime.engine.kv_cache.block_map import block_map
from octavo_runtime.engine.kv_cache.block_pool import BlockPool
from octavo_runtime.engine.kv_cache.block_tables import BlockTables
from octavo_runtime.engine.ordered_queue import OrderedQueue
from octavo_runtime.engine.preemption import PreemptionCost
from octavo_runtime.engine.request import Request, Sequence, finish_reason
from octavo_runtime.engine.scheduler import Schedule, Scheduler
from octavo_runtime.engine.step_pace import StepPace
from octavo_runtime.models.loading.files import ModelFiles, locate
from octavo_runtime.protocol.messages import BlockMap, Load, Output, Ready, RequestError
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.reason import as_text
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams, StructuredOutput
from octavo_runtime.protocol.step import Sample, TokenLogprobs
from octavo_runtime.structured.grammars import Grammar, GrammarFailed, Grammars, GrammarsBusy
from octavo_runtime.structured.pending import PendingGrammars
from octavo_runtime.text.tokenizer import load_tokenizer
from octavo_runtime.text.tokenizer_conversion import tokenizer_files
from octavo_runtime.text.tokenizer_files import TokenizerUnavailable
from octavo_runtime.worker.executor import Executor, Launched, Masks, make_executor

# How long a step waits for grammars to compile when there is nothing else to do.
_IDLE_WAIT_SECONDS = 0.005

_PROVED = object()


@dataclass(frozen=True)
class _Flight:
    """A step under way. `planned`: when, by the engine's clock; `started`: when, in seconds of `perf_counter`."""

    schedule: Schedule
    launched: Launched
    planned: float
    started: float


@dataclass(eq=False)
class _Life:
    """What the engine keeps of a request until it ends."""

    request: Request
    sequences: list[Sequence]
    beams: Beams | None = None
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    queued: float | None = None  # seconds from its arrival to its first step
    told: bool = False  # whether an output has carried what comes once a request


class Engine:
    """Continuous batching over one executor. Not thread-safe: one loop calls it.

    `executor`: the one that the configuration asks for, if not given. `clock`: seconds that never go back; queue limits
    and deadlines are measured by it."""

    def __init__(
        self,
        config: EngineConfig,
        files: ModelFiles | None = None,
        *,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        files = files or locate(config.model)
        self._executor = executor or make_executor(config, files)
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
        self._moments: OrderedQueue[_Life] = OrderedQueue()  # when a request must have started or ended
        self._compiling: PendingGrammars[_Life] = PendingGrammars()
        self._grammars = Grammars(
            lambda: load_tokenizer(tokenizer_files(config, files)), self.ready.vocab_size, tuple(self._eos)
        )
        self._grammar_of: dict[Sequence, Grammar] = {}
        self._mask_thread = ThreadPoolExecutor(1, thread_name_prefix="masks")
        self._proof: Iterator[None] | None = self._scheduler.proof()
        self._flight: _Flight | None = None  # the step that runs ahead
        self._settled = 0.0  # when the last step ended, as _Flight.started

    @property
    def has_work(self) -> bool:
        return bool(self._lives) or self._flight is not None

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
            waiting=self._num_waiting,
            swapped=scheduler.num_swapped,
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
        grammar: Grammar | None = None,
    ) -> None:
        """Queues a request (see messages.Add for what the arguments mean). grammar: that of params.structured_outputs,
        where `compile` has made it already.

        Raises InvalidParameter when the prompt is empty, too long, or names a token that is not there, and QueueFull
        when as many requests as may wait do."""
        prompt = params.truncate(prompt)
        self._check_new(request_id)
        handling = Handling(priority, cache_salt, timeout)
        request = self._admission.generation(request_id, prompt, params, handling, self._num_waiting)
        request.end_tokens = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else self._eos)
        first = Sequence(request, list(prompt), draws=list(range(params.num_answers)))
        life = _Life(request, [first])
        if params.beam_width is not None:
            first.draws = [0]
            search = BeamSearch(params.beam_width, params.length_penalty, params.early_stopping)
            life.beams = Beams(request, [first], search, request.end_tokens, self.ready.max_model_len)
        self._begin(life)
        if grammar is not None:
            self._grammar_of[first] = grammar.fork()
        elif params.structured_outputs is not None:
            self._compiling.add(life, self._grammars.compile(params.structured_outputs))
            return
        self._scheduler.add(first)

    def compile(self, structured: StructuredOutput) -> Grammar:
        """The grammar of an answer's form, for add_request; compiles meanwhile. Raises InvalidParameter where it
        cannot, GrammarsBusy where no process can start, and TokenizerUnavailable."""
        return self._grammars.compile(structured).result()

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
        request = self._admission.embedding(request_id, prompt, params, handling, self._num_waiting)
        sequence = Sequence(request, list(prompt), draws=[])
        self._begin(_Life(request, [sequence]))
        self._scheduler.add(sequence)

    def abort(self, request_id: str, index: int | None = None) -> None:
        """Ends a request in any state, or only its answer `index`, and frees the blocks at once; unknown ids are
        ignored."""
        life = self._lives.get(request_id)
        if life is None:
            return
        self._proof = self._scheduler.proof()
        if index is not None and life.beams is None and life.sequences[0].draws == [life.sequences[0].index]:
            ended = [one for one in life.sequences if one.index == index]
            if len(ended) < len(life.sequences):
                for sequence in ended:
                    self._end(life, sequence)
                return
        self._forget(life)
        if self._compiling.discard(life):
            return
        for sequence in life.beams.live if life.beams else life.sequences:
            self._scheduler.remove(sequence)
            self._grammar_of.pop(sequence, None)

    def step(self) -> list[Output]:
        """Waits for one step; outputs for the requests that got tokens or ended. Where it can, it launches the next
        step first, so that the device need not wait for what is done with these outputs."""
        outputs = [*self._start_compiled(), *self._expire()]
        flight = self._flight or self._launch()
        if flight is None:
            return outputs
        self._flight = self._launch() if flight.launched.leads else None
        return outputs + self._settle(flight)

    def block_map(self) -> BlockMap:
        """Who holds which block now."""
        return block_map(self._tables, self._scheduler.running)

    def check_integrity(self) -> None:
        """Raises IntegrityError when a block leaked or is held twice."""
        self._scheduler.check_integrity()

    def check_some(self) -> bool:
        """Proves the next blocks of what check_integrity proves, for a loop that has nothing else to do; whether some
        are left. What is proved rests until something changes. Raises IntegrityError."""
        if self._proof is None:
            return False
        if next(self._proof, _PROVED) is _PROVED:
            self._proof = None
        return self._proof is not None

    def prepare_some(self) -> bool:
        """Does a part of what later steps would else wait for, in a loop that has nothing else to do; whether there was
        one left."""
        return self._flight is None and self._executor.prepare()

    @property
    def _num_waiting(self) -> int:
        return len(self._scheduler.waiting) + len(self._compiling)

    def _begin(self, life: _Life) -> None:
        request = life.request
        self._lives[request.id] = life
        self._watch(life, min(request.queue_deadline, request.deadline))

    def _forget(self, life: _Life) -> None:
        del self._lives[life.request.id]
        if life in self._moments:
            self._moments.remove(life)

    def _watch(self, life: _Life, moment: float) -> None:
        if moment < float("inf"):
            self._moments.add(moment, life)

    def _check_new(self, request_id: str) -> None:
        if request_id in self._lives:
            raise InvalidParameter("request_id", f"must be new, got {request_id!r} again")

    def _start_compiled(self) -> list[Output]:
        """Queues the requests whose grammar has compiled, and ends those whose grammar cannot."""
        outputs: list[Output] = []
        idle = 0 < len(self._compiling) == len(self._lives)
        for life, compiled in self._compiling.take_done(_IDLE_WAIT_SECONDS if idle else 0):
            try:
                grammar = compiled.result()
            except (InvalidParameter, GrammarsBusy, TokenizerUnavailable) as error:
                self._forget(life)
                outputs.append(_failure(life, _refusal(error)))
                continue
            [first] = life.sequences
            self._grammar_of[first] = grammar
            self._scheduler.add(first)
        return outputs

    def _expire(self) -> list[Output]:
        """Ends the requests whose time is over."""
        now, outputs = self._clock(), []
        while self._moments and self._moments.first()[0] <= now:
            life = self._moments.pop()
            if now >= life.request.deadline:
                late = RequestError("deadline", "timeout: the request did not end within its time limit")
                outputs.append(self._fail(life, late))
            elif not life.sequences[0].started:
                limit = self._config.queue_timeout
                stale = RequestError("queue_timeout", f"queue_timeout: the request waited over {limit}")
                outputs.append(self._fail(life, stale))
            else:
                self._watch(life, life.request.deadline)
        return outputs

    def _launch(self) -> _Flight | None:
        """Plans the next step and starts it; None where there is nothing to do."""
        schedule = self._scheduler.plan(self._pace.prompt_tokens)
        if not schedule.plan.moves and not schedule.sequences:
            return None
        self._proof = self._scheduler.proof()
        planned, started = self._clock(), time.perf_counter()
        launched = self._executor.launch(schedule.plan, self._masks(schedule))
        self._scheduler.commit(schedule, leads=launched.leads)
        return _Flight(schedule, launched, planned, started)

    def _settle(self, flight: _Flight) -> list[Output]:
        """Waits for a step and takes in what it brought. Sequences that ended meanwhile get nothing of it."""
        schedule, result = flight.schedule, flight.launched.result()
        now = time.perf_counter()
        self._observe(schedule, now - max(flight.started, self._settled))
        self._settled = now
        outputs: list[Output] = []
        for sequence, item, samples, scores in zip(
            schedule.sequences, schedule.plan.slices, result.samples, result.prompt_logprobs, strict=True
        ):
            if sequence.ended:
                continue
            life = self._lives[sequence.request.id]
            if life.queued is None:
                life.queued = flight.planned - life.request.arrived
            if scores and not life.told:
                # A prompt that was preempted half-way is computed again from its start.
                life.prompt_logprobs[item.start :] = scores
            if not samples:
                continue
            if life.beams is not None:
                outputs += self._grow_beams(life, life.beams, sequence, samples[0])
            elif len(samples) == 1:
                outputs.append(self._append(life, sequence, samples[0], item.start + len(item.token_ids)))
            else:
                outputs += self._fork(life, sequence, samples)
        for index, embedding in result.embeddings.items():
            if not schedule.sequences[index].ended:
                outputs.append(self._embedded(schedule.sequences[index], embedding))
        return outputs

    def _observe(self, schedule: Schedule, seconds: float) -> None:
        """Learns from how long a step took."""
        self._cost.observe(schedule.num_tokens, seconds)
        self._pace.observe(schedule.num_tokens, schedule.num_prompt_tokens, seconds)

    def _masks(self, schedule: Schedule) -> Masks | None:
        """Works out the tokens that grammars allow while the device computes."""
        if not self._grammar_of:
            return None
        drawing = [
            (self._grammar_of.get(sequence), len(item.draws))
            for sequence, item in zip(schedule.sequences, schedule.plan.slices, strict=True)
            if item.draws
        ]
        if not any(grammar for grammar, _ in drawing):
            return None
        # A sequence that is about to fork draws several tokens from one state.
        filled = self._mask_thread.submit(self._grammars.fill_masks, [grammar for grammar, _ in drawing])
        return lambda: np.repeat(filled.result(), [draws for _, draws in drawing], axis=0)

    def _grow_beams(self, life: _Life, beams: Beams, sequence: Sequence, sample: Sample) -> list[Output]:
        assert sample.logprobs is not None
        beams.take(sequence, sample.logprobs, self._scheduler)
        if not beams.search.done:
            return []
        self._forget(life)
        return beams.outputs(sequence.cached_tokens, life.queued)

    def _fork(self, life: _Life, parent: Sequence, samples: list[Sample]) -> list[Output]:
        """A prompt's first tokens, one for each of its answers."""
        grown = [parent, *(parent.fork(index) for index in parent.draws[1:])]
        parent.draws = [parent.index]
        for child in grown[1:]:
            self._scheduler.fork(parent, child)
            if parent in self._grammar_of:
                self._grammar_of[child] = self._grammar_of[parent].fork()
            life.sequences.append(child)
        outputs: list[Output] = []
        for one, sample in zip(grown, samples, strict=True):
            outputs.append(self._append(life, one, sample, one.known))
            if outputs[-1].error is not None:
                break  # it ended all of them
        return outputs

    def _append(self, life: _Life, sequence: Sequence, sample: Sample, position: int) -> Output:
        token = sample.token_id
        sequence.learn(position, token)
        reason = finish_reason(sequence.request, position, token)
        grammar = self._grammar_of.get(sequence)
        if grammar is not None:
            try:
                grammar.accept([token])
            except GrammarFailed as error:
                return self._fail(life, _refusal(error))
            if reason is None and token in self._eos:
                reason = "stop"  # whatever ignore_eos says: the grammar lets nothing follow
        if reason is not None:
            self._end(life, sequence)
        logprobs = None if sample.logprobs is None else [sample.logprobs]
        if life.told:
            return Output(life.request.id, [token], reason, sequence.index, logprobs)
        life.told = True
        return Output(
            life.request.id,
            [token],
            reason,
            sequence.index,
            logprobs,
            life.prompt_logprobs if life.request.params.prompt_logprobs is not None else None,
            sequence.cached_tokens,
            queued=life.queued,
        )

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
            self._forget(life)

    def _fail(self, life: _Life, error: RequestError) -> Output:
        self.abort(life.request.id)
        return _failure(life, error)


def _failure(life: _Life, error: RequestError) -> Output:
    return Output(life.request.id, [], "error", error=error)


def _refusal(error: InvalidParameter | GrammarsBusy | TokenizerUnavailable | GrammarFailed) -> RequestError:
    """Why an answer cannot have its form."""
    match error:
        case GrammarsBusy():
            return RequestError("overloaded", str(error))
        case InvalidParameter():
            return RequestError("invalid", as_text(error.reason), error.field)
        case GrammarFailed():
            return _refusal(InvalidParameter("structured_outputs", f"cannot be met: {error}"))
        case _:
            return _refusal(InvalidParameter("structured_outputs", f"needs the tokenizer: {error}"))
