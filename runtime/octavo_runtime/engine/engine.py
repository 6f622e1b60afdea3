"""The engine: requests in, tokens out, one step at a time."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from msgspec.structs import replace

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.admission import Admission, Handling
from octavo_runtime.engine.answer_forms import AnswerForms
from octavo_runtime.engine.beam_search import BeamSearch
from octavo_runtime.engine.beams import Beams
from octavo_runtime.engine.deadlines import Deadlines
from octavo_runtime.engine.growth import Growth
from octavo_runtime.engine.kv_cache.block_map import block_map
from octavo_runtime.engine.kv_cache.block_pool import BlockPool
from octavo_runtime.engine.kv_cache.block_tables import BlockTables
from octavo_runtime.engine.live_requests import LiveRequests
from octavo_runtime.engine.preemption import PreemptionCost
from octavo_runtime.engine.request import Sequence
from octavo_runtime.engine.request_state import RequestState
from octavo_runtime.engine.scheduler import Schedule, Scheduler
from octavo_runtime.engine.step_pace import StepPace
from octavo_runtime.models.layer_groups import group_windows
from octavo_runtime.models.loading.files import ModelFiles, locate
from octavo_runtime.protocol.messages import BlockMap, Load, Output, Ready
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import SamplingParams, StructuredOutput
from octavo_runtime.protocol.step import Masks, StepResult
from octavo_runtime.structured.grammars import Grammar, Grammars
from octavo_runtime.text.tokenizer import load_tokenizer
from octavo_runtime.text.tokenizer_conversion import tokenizer_files
from octavo_runtime.worker.executor import Executor, Launched, make_executor

# How long a step waits for grammars to compile when there is nothing else to do.
_IDLE_WAIT_SECONDS = 0.005

_PROVED = object()


@dataclass(frozen=True)
class _Flight:
    """A step under way. `leads`: whether the next one may be planned before its tokens are known; `masks`: the tokens
    that may be drawn, where not all may; `started`: when, in seconds of `perf_counter`."""

    schedule: Schedule
    launched: Launched
    leads: bool
    masks: Future[Masks] | None
    started: float


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
            windows=group_windows(self._executor.spec),
            step_tokens=self._executor.max_num_batched_tokens,
        )
        self._scheduler = Scheduler(
            self._tables,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=self._executor.max_num_batched_tokens,
            preemption_mode=self._cost.mode,
            in_chunks=self.ready.keeps_tokens,
            depth=self._executor.depth,
            speculation=config.speculation,
        )
        self._speculates = config.speculation is not None
        self._admission = Admission(config, self.ready, clock)
        self._forms = AnswerForms(
            Grammars(lambda: load_tokenizer(tokenizer_files(config, files)), self.ready.vocab_size, tuple(self._eos))
        )
        self._deadlines = Deadlines(config.queue_timeout)
        self._live = LiveRequests(self._scheduler, self._forms, self._deadlines)
        self._growth = Growth(self._live, self._scheduler, self._forms, self._eos)
        self._proof: Iterator[None] | None = self._scheduler.proof()
        self._flights: deque[_Flight] = deque()  # under way, the first one first
        self._settled = 0.0  # when the last step ended, as _Flight.started

    @property
    def has_work(self) -> bool:
        return bool(self._live.states) or bool(self._flights)

    def __contains__(self, request_id: str) -> bool:
        """Whether a request has not ended yet."""
        return request_id in self._live.states

    @property
    def patience(self) -> float:
        """Seconds after which the step under way, or the next one, counts as hung."""
        return self._pace.patience

    @property
    def load(self) -> Load:
        scheduler, tables = self._scheduler, self._tables
        return Load(
            running=len(scheduler.started),
            waiting=self._num_waiting,
            swapped=scheduler.num_swapped,
            blocks_used=tables.pool.num_used,
            blocks_cached=tables.pool.num_cached,
            blocks_total=tables.pool.num_blocks,
            slots_wasted=tables.slots_wasted(scheduler.started),
            recomputes=scheduler.preemptions.recompute,
            swaps=scheduler.preemptions.swap,
            prefix_queries=tables.prefix_queries,
            prefix_hits=tables.prefix_hits,
            guess_runs=scheduler.guesses.runs,
            guessed=scheduler.guesses.tokens,
            guessed_right=scheduler.guesses.accepted,
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
        prompt = params.truncate(prompt, self.ready.max_model_len)
        self._live.check_new(request_id)
        handling = Handling(priority, cache_salt, timeout)
        request = self._admission.generation(request_id, prompt, params, handling, self._num_waiting)
        request.end_tokens = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else self._eos)
        first = Sequence(request, list(prompt), draws=list(range(params.num_answers)))
        state = RequestState(request, [first])
        if params.beam_width is not None:
            first.take_draws()
            search = BeamSearch(params.beam_width, params.length_penalty, params.early_stopping)
            state.beams = Beams(request, [first], search, request.end_tokens, self.ready.max_model_len)
        self._live.begin(state)
        if grammar is not None:
            self._forms.begin(first, grammar)
        elif params.structured_outputs is not None:
            self._forms.wait(state, params.structured_outputs)
            return
        self._scheduler.add(first)

    def compile(self, structured: StructuredOutput) -> Grammar:
        """The grammar of an answer's form, for add_request; compiles meanwhile. Raises InvalidParameter where it
        cannot, GrammarsBusy where no process can start, and TokenizerUnavailable."""
        return self._forms.compile(structured)

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
        self._live.check_new(request_id)
        handling = Handling(priority, cache_salt, timeout)
        request = self._admission.embedding(request_id, prompt, params, handling, self._num_waiting)
        sequence = Sequence(request, list(prompt), draws=[])
        self._live.begin(RequestState(request, [sequence]))
        self._scheduler.add(sequence)

    def abort(self, request_id: str, index: int | None = None) -> None:
        """Ends a request in any state, or only its answer `index`, and frees the blocks at once; unknown ids are
        ignored."""
        state = self._live.states.get(request_id)
        if state is None:
            return
        self._proof = self._scheduler.proof()
        if index is not None and state.has_forked and any(one.index != index for one in state.sequences):
            for answer in [one for one in state.sequences if one.index == index]:
                self._live.end_answer(state, answer)
        else:
            self._live.end(state)

    def step(self) -> list[Output]:
        """Waits for one step; outputs for the requests that got tokens or ended. Where it can, it launches the next
        step first, so that the device need not wait for what is done with these outputs."""
        outputs = [*self._start_compiled(), *self._expire()]
        self._launch_up_to(self._executor.depth)
        if not self._flights:
            return outputs
        flight = self._flights.popleft()
        if flight.leads:
            self._launch_up_to(1)
        result = self._wait(flight)
        self._scheduler.settle(flight.schedule)
        return outputs + self._growth.grow(flight.schedule, result)

    def block_map(self) -> BlockMap:
        """Who holds which block now."""
        return block_map(self._tables, self._scheduler.started)

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
        return not self._flights and self._executor.prepare()

    @property
    def _num_waiting(self) -> int:
        return len(self._scheduler.waiting) + len(self._forms)

    def _start_compiled(self) -> Iterator[Output]:
        """Queues the requests whose grammar has compiled, and ends those whose grammar cannot."""
        idle = 0 < len(self._forms) == len(self._live.states)
        for state, error in self._forms.compiled(_IDLE_WAIT_SECONDS if idle else 0):
            if error is None:
                self._scheduler.add(state.sequences[0])
            else:
                self._live.forget(state)
                yield state.failure(error)

    def _expire(self) -> Iterator[Output]:
        """Ends the requests whose time is over."""
        for state, error in self._deadlines.expired(self._clock()):
            self._proof = self._scheduler.proof()
            yield self._live.fail(state, error)

    def _launch_up_to(self, count: int) -> None:
        """Starts steps until so many are under way, or there is nothing to do."""
        while len(self._flights) < count and (flight := self._launch()) is not None:
            self._flights.append(flight)

    def _launch(self) -> _Flight | None:
        """Plans the next step and starts it; None where there is nothing to do."""
        schedule = self._scheduler.plan(self._pace.prompt_tokens)
        plan = schedule.plan
        if not plan.moves and not plan.slices:
            return None
        self._proof = self._scheduler.proof()
        if plan.new_rows:
            self._live.note_start(schedule.sequences, self._clock())
        masks, started = self._forms.masks(schedule), time.perf_counter()
        launched = self._executor.launch(plan if masks is None else replace(plan, masked=True))
        leads = launched.leads and not self._speculates  # what follows a token is guessed once it is known
        self._scheduler.commit(schedule, leads=leads)
        return _Flight(schedule, launched, leads, masks, started)

    def _wait(self, flight: _Flight) -> StepResult:
        """The result of a step, once it is there; learns from how long it took."""
        result = flight.launched.result(None if flight.masks is None else flight.masks.result())
        now, schedule = time.perf_counter(), flight.schedule
        seconds = now - max(flight.started, self._settled)
        self._settled = now
        self._cost.observe(schedule.num_tokens, seconds)
        self._pace.observe(schedule.num_tokens, schedule.num_prompt_tokens, seconds)
        return result
