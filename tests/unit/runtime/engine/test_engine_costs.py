"""What the engine's own work costs, in lines of Python that run: no clock, so nothing else on the machine counts."""

from concurrent.futures import Future
from contextlib import nullcontext
from functools import cache
from types import SimpleNamespace

import pytest
from work import lines_run

from octavo_runtime.bench.no_device import NoDevice
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine import request
from octavo_runtime.engine.engine import Engine
from octavo_runtime.engine.kv_cache.block_pool import IntegrityError
from octavo_runtime.engine.offline import answer_all
from octavo_runtime.engine_process import process
from octavo_runtime.models.loading.files import locate
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.protocol.messages import Add, Step
from octavo_runtime.protocol.sampling_params import SamplingParams, StructuredOutput
from octavo_runtime.structured.grammars import Grammars
from octavo_runtime.text.tokenizer import Tokenizer, load_tokenizer

MODEL = "builtin://smollm2"
read_spec = cache(find_spec)
ENDLESS = SamplingParams(temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(locate(MODEL))


def make_engine(*, blocks: int = 4096, budget: int = 2048, rows: int = 4, **settings: object) -> Engine:
    device = NoDevice(read_spec(MODEL), num_blocks=blocks, block_size=16, max_num_batched_tokens=budget)
    config = EngineConfig.model_validate({"model": MODEL, "device": "cpu", "max_num_seqs": rows, **settings})
    return Engine(config, locate(MODEL), executor=device)


def step(engine: Engine) -> None:
    engine.step()
    _ = engine.load


def fill_rows(engine: Engine, rows: int = 4) -> None:
    for row in range(rows):
        engine.add_request(f"running-{row}", [row, 1, 2], ENDLESS)
    for _ in range(3):
        engine.step()
    assert engine.load.running == rows


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_a_step_costs_the_same_however_many_wait(policy):
    def cost(waiting: int) -> int:
        engine = make_engine(queue_timeout="1h", scheduling_policy=policy)
        fill_rows(engine)
        for index in range(waiting):
            engine.add_request(f"waiting-{index}", [1, 2, 3], ENDLESS, priority=index % 3, timeout=3600.0)
        engine.step()
        return lines_run(lambda: step(engine))

    assert cost(2000) == cost(50)


def test_a_step_costs_the_same_however_many_grammars_are_compiled(monkeypatch):
    monkeypatch.setattr(Grammars, "compile", lambda _, __: Future())

    def cost(compiling: int) -> int:
        engine = make_engine()
        fill_rows(engine)
        params = SamplingParams(structured_outputs=StructuredOutput(regex="a+"))
        for index in range(compiling):
            engine.add_request(f"compiling-{index}", [1, 2, 3], params)
        assert engine.load.waiting == compiling
        engine.step()
        return lines_run(lambda: step(engine))

    assert cost(1000) == cost(20)


def test_a_step_hashes_little_for_many_that_wait_with_one_uncached_prefix(monkeypatch):
    hashed, block_hash = [], request.block_hash
    monkeypatch.setattr(
        request, "block_hash", lambda parent, tokens: hashed.append(tokens) or block_hash(parent, tokens)
    )
    prefix = list(range(480))

    def first_step(waiting: int) -> tuple[int, int]:
        engine = make_engine(rows=64)
        for index in range(waiting):
            engine.add_request(str(index), [*prefix, index], ENDLESS)
        hashed.clear()
        cost = lines_run(lambda: step(engine))
        return len(hashed), cost

    blocks, cost = first_step(2000)
    assert blocks <= 30 + 64, "the prompt that runs, and one block of each that the step looks at"
    assert (blocks, cost) == first_step(200)


def test_those_that_wait_for_a_prefix_share_it_once_it_is_there():
    engine = make_engine(rows=64)
    for index in range(50):
        engine.add_request(str(index), [*range(480), index], ENDLESS)
    for _ in range(6):
        engine.step()
    assert engine.load.running == 50
    assert engine.load.prefix_hits == 49 * 480


def test_a_prompt_of_an_offline_batch_costs_the_same_however_many_there_are(tokenizer):
    params = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)

    def cost(count: int) -> float:
        engine = make_engine(rows=16)
        prompts = {str(index): [index, 1, 2, 3] for index in range(count)}
        return lines_run(lambda: answer_all(engine, tokenizer, prompts, [params] * count, show=False)) / count

    cost(16)  # what is looked up once
    assert cost(800) < 1.1 * cost(100)


def test_the_books_are_proved_a_little_at_a_time_and_once_until_something_runs():
    engine = make_engine(blocks=20_000)
    fill_rows(engine)
    for row in range(4):
        engine.abort(f"running-{row}")
    slices = []
    while engine.check_some():
        slices.append(lines_run(engine.check_some))
    whole = lines_run(engine.check_integrity)
    assert len(slices) > 5
    assert max(slices) < whole / 5, "one slice is a small part of the whole"
    assert sum(slices) < whole
    assert not engine.check_some()
    assert lines_run(engine.check_some) < 10, "what is proved is not proved again"
    engine.add_request("again", [1, 2, 3], SamplingParams(max_tokens=1, ignore_eos=True))
    engine.step()
    assert engine.check_some()


def test_a_proof_by_slices_finds_what_the_whole_one_finds():
    engine = make_engine(blocks=20_000)
    engine._tables.pool.allocate(1)  # nobody's
    with pytest.raises(IntegrityError, match="references, in 0 tables"):
        all(iter(engine.check_some, False))


def test_the_engine_answers_before_it_proves_its_books(monkeypatch):
    """One request through the loop of the engine's process: nothing is proved between its arrival and its answer. Once
    there is nothing to do, all that lasts is kept from searches for garbage."""
    engine = make_engine()
    happened: list[str] = []
    monkeypatch.setattr(process, "keep_all", lambda: happened.append("kept"))

    class Mailbox:
        def __init__(self) -> None:
            self.clients = {b"client"}
            self.turns = 0

        def receive(self, timeout_seconds: float) -> list[tuple[bytes, Add]]:
            self.turns += 1
            if self.turns == 3:
                return [(b"client", Add("r", [1, 2, 3], SamplingParams(max_tokens=1, ignore_eos=True)))]
            if timeout_seconds > 0:
                raise KeyboardInterrupt  # idle, and all is proved
            return []

        def send(self, _client: bytes, event: object) -> None:
            if isinstance(event, Step) and event.outputs:
                happened.append("answer")

    check, run = engine.check_some, engine.step
    engine.check_some = lambda: happened.append("proof") or check()
    engine.step = lambda: happened.append("step") or run()
    engine.check_integrity = lambda: happened.append("whole proof")
    pulse = SimpleNamespace(turn=nullcontext)
    with pytest.raises(KeyboardInterrupt):
        process._loop(engine, Mailbox(), pulse, None)
    answered = happened.index("answer")
    assert happened[answered - 1] == "step"
    assert "proof" in happened[answered:]
    assert happened[-1] == "kept"
    assert happened.count("kept") == 1
    assert "whole proof" not in happened
