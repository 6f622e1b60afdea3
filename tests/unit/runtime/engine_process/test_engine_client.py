"""The engine in its own process, over zmq."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import zmq
from children import children
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE, eventually_async

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine_process.client import EngineClient, EngineFailure, EngineRefused
from octavo_runtime.engine_process.stream import joined
from octavo_runtime.protocol.messages import Output, RequestError
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams

pytestmark = pytest.mark.slow

CONFIG = EngineConfig(model="builtin://smollm2", device="cpu", kv_cache_memory="64Mi", max_model_len=512)
LONG = SamplingParams(temperature=0.0, max_tokens=400, ignore_eos=True)


@contextlib.asynccontextmanager
async def started(config: EngineConfig = CONFIG, program: str = "octavo_runtime.engine_process.process"):
    client = EngineClient(program)
    try:
        await client.start(config)
        yield client
    finally:
        await client.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    """One engine for tests that leave it as it was; in 16 bits a token that two words nearly tie for would depend on
    how many requests share a step."""
    async with started(CONFIG.model_copy(update={"dtype": "float32"})) as client:
        yield client


# For tests that use it: they run in its event loop.
on_shared = pytest.mark.asyncio(loop_scope="module")


def engine_pid(program: str = "octavo_runtime.engine_process.process") -> int:
    """Of the engine that was started last."""
    return max(children(program), key=psutil.Process.create_time).pid


async def collect(client: EngineClient, request_id: str, params: SamplingParams) -> list[int]:
    return [token async for output in client.generate(request_id, [1, 2, 3], params) for token in output.token_ids]


def test_an_engine_whose_client_is_gone_before_it_begins_ends():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with tempfile.TemporaryDirectory() as folder:
        words = [CONFIG.model_dump_json(), f"ipc://{folder}/engine", str(gone.pid)]
        engine = subprocess.Popen([sys.executable, "-m", "octavo_runtime.engine_process.process", *words])
        assert engine.wait(PATIENCE) in (0, 1)


async def test_a_temporary_folder_whose_name_is_too_long_for_sockets_is_refused(tmp_path, monkeypatch):
    longest = zmq.IPC_PATH_MAX_LEN - len("/octavo-own-12345678/engine.pulse")
    long = tmp_path / ("x" * longest)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(EngineRefused) as refused:
        EngineClient()
    assert str(refused.value) == f"TMPDIR: must have at most {longest} bytes, for sockets in it, got '{long}'"
    assert not [*long.iterdir()]


@pytest.mark.parametrize("error", [BlockingIOError(11, "no more processes"), RuntimeError("no more threads")])
async def test_a_process_that_cannot_be_started_is_told_in_one_line(monkeypatch, error):
    def start(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("octavo_runtime.engine_process.client.start_child", start)
    with pytest.raises(EngineFailure, match=r"^the engine process cannot be started: .*no more (processes|threads)$"):
        async with started():
            pass


@on_shared
async def test_requests_run_together_and_leave_nothing(shared):
    params = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
    answers = await asyncio.gather(*(collect(shared, f"r{index}", params) for index in range(5)))
    assert [len(answer) for answer in answers] == [8] * 5
    assert len({tuple(answer) for answer in answers}) == 1
    await eventually_async(lambda: shared.load.running == 0 and shared.load.blocks_used == 0)
    assert shared.problem() is None


OUTPUTS = st.builds(
    Output,
    st.just("r"),
    st.lists(st.integers(0, 9), max_size=3),
    st.none(),
    st.integers(0, 2),
    error=st.one_of(st.none(), st.none(), st.just(RequestError("deadline", "late"))),
)


@given(st.lists(st.one_of(OUTPUTS, OUTPUTS, st.none()), min_size=1))
def test_joining_outputs_loses_and_reorders_no_token(outputs: list[Output | None]):
    def tokens(of: list[Output | None]) -> dict[int, list[int]]:
        return {
            index: [token for one in of if one and one.index == index and not one.error for token in one.token_ids]
            for index in range(3)
        }

    found = joined(outputs)
    assert tokens(found) == tokens(outputs)
    assert found.count(None) == outputs.count(None)
    assert [one for one in found if one and one.error] == [one for one in outputs if one and one.error]
    answers = [one.index for one in found if one and not one.error]
    assert len(answers) == len(set(answers))


@on_shared
async def test_a_reader_that_falls_behind_gets_the_same_tokens_in_fewer_outputs(shared):
    params = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True, logprobs=1)
    stream = shared.generate("slow", [1, 2, 3], params)
    outputs = [await anext(stream)]
    await eventually_async(lambda: shared.load.running == 0)
    outputs += [output async for output in stream]
    assert len(outputs) == 2
    assert [token for output in outputs for token in output.token_ids] == await collect(shared, "quick", params)
    assert [len(output.token_ids) for output in outputs] == [len(output.logprobs) for output in outputs]
    assert outputs[-1].finish_reason == "length"


@on_shared
async def test_tokens_are_not_joined_where_one_may_end_the_answer(shared):
    params = SamplingParams(temperature=0.0, max_tokens=10, ignore_eos=True, stop=("never",))
    stream = shared.generate("r", [1, 2, 3], params)
    await anext(stream)
    await eventually_async(lambda: shared.load.running == 0)
    assert [len(output.token_ids) async for output in stream] == [1] * 9


@on_shared
async def test_a_refused_request_is_an_error_output_and_harms_nobody(shared):
    outputs = [output async for output in shared.generate("r", [10**6], LONG)]
    assert [output.finish_reason for output in outputs] == ["error"]
    assert "token ids must be from 0 to 49151, got 1000000" in outputs[0].error.message
    assert (outputs[0].error.kind, outputs[0].error.field) == ("invalid", "prompt")
    assert len(await collect(shared, "next", SamplingParams(max_tokens=3, ignore_eos=True))) == 3


@on_shared
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"timeout": "5"}, "timeout must be a number of seconds, got '5'"),
        ({"timeout": True}, "timeout must be a number of seconds, got True"),
        ({"priority": "1"}, "priority must be an integer, got '1'"),
        ({"priority": 1.5}, "priority must be an integer, got 1.5"),
        ({"cache_salt": 5}, "cache_salt must be text, got 5"),
        ({"cache_salt": "\ud800"}, "cache_salt must be valid Unicode"),
        ({"request_id": 5}, "request_id must be text, got 5"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_the_engine_could_not_read_is_refused_and_harms_nobody(shared, wrong, words):
    """The engine ended, and all that it served with it."""

    async def generate(**request: Any) -> None:
        await anext(shared.generate(params=SamplingParams(), **request))

    async def embed(**request: Any) -> None:
        await shared.embed(params=PoolingParams(), **request)

    for ask in (generate, embed):
        with pytest.raises(InvalidParameter, match=words):
            await ask(**{"request_id": "wrong", "prompt": [1]} | wrong)
    assert len(await collect(shared, "after", SamplingParams(max_tokens=3, ignore_eos=True))) == 3


@on_shared
async def test_a_name_that_is_taken_is_refused_and_the_first_goes_on(shared):
    """The first one was never answered, and waited for ever."""
    params = SamplingParams(max_tokens=30, ignore_eos=True)
    first = asyncio.create_task(collect(shared, "taken", params))
    await asyncio.sleep(0)
    with pytest.raises(InvalidParameter, match="request_id must be new, got 'taken' again"):
        await collect(shared, "taken", params)
    assert len(await asyncio.wait_for(first, PATIENCE)) == 30
    assert len(await collect(shared, "taken", params)) == 30


@on_shared
async def test_closing_the_generator_frees_the_blocks(shared):
    stream = shared.generate("r", [1, 2, 3], LONG)
    await anext(stream)
    await eventually_async(lambda: shared.load.blocks_used > 0)
    await stream.aclose()
    await eventually_async(lambda: shared.load.blocks_used == 0)


@on_shared
async def test_one_answer_of_several_ends_alone(shared):
    params = SamplingParams(n=2, seed=1, max_tokens=150, ignore_eos=True)
    counts = [0, 0]
    async for output in shared.generate("r", [1, 2, 3], params):
        counts[output.index] += len(output.token_ids)
        if output.index == 0 and counts[0] == 3:
            await shared.abort_answer("r", 0)
    assert counts[1] == 150
    assert 3 <= counts[0] < 150
    await eventually_async(lambda: shared.load.blocks_used == 0)
    await shared.abort_answer("r", 1)  # nobody knows it any more
    assert shared.problem() is None


@on_shared
async def test_the_block_map_shows_who_shares_what(shared):
    stream = shared.generate("r", list(range(3, 43)), SamplingParams(n=2, max_tokens=400, ignore_eos=True))
    grown = 0
    while grown < 2:  # a first token's slot is written in the step behind it
        output = await anext(stream)
        grown += len(output.token_ids) if output.index == 1 else 0
    blocks = await shared.block_map()
    first, second = blocks.tables["r/0"], blocks.tables["r/1"]
    assert first[:2] == second[:2], "two full blocks of the prompt"
    assert [blocks.references[block] for block in first] == [2, 2, *[1] * (len(first) - 2)]
    assert [blocks.filled[block] for block in first[:2]] == [16, 16]
    assert 8 <= blocks.filled[first[2]] <= 16
    assert len(blocks.references) == len(blocks.cached) == len(blocks.filled) == shared.ready.num_blocks
    await stream.aclose()
    await eventually_async(lambda: shared.load.blocks_used == 0)
    idle = await shared.block_map()
    assert idle.tables == {}
    assert sum(idle.cached) >= 2


@on_shared
async def test_a_request_ends_at_its_deadline(shared):
    outputs = [output async for output in shared.generate("r", [1, 2, 3], LONG, timeout=0.3)]
    assert outputs[-1].error.kind == "deadline"
    assert sum(len(output.token_ids) for output in outputs) < 400


async def test_a_full_queue_refuses():
    async with started(CONFIG.model_copy(update={"max_num_seqs": 1, "max_queue_len": 1})) as client:
        running = client.generate("running", [1, 2, 3], LONG)
        await anext(running)
        waiting = client.generate("waiting", [1, 2, 3], LONG)
        task = asyncio.create_task(anext(waiting))
        await eventually_async(lambda: client.load.waiting == 1)
        [refused] = [output async for output in client.generate("refused", [1, 2, 3], LONG)]
        assert refused.error.kind == "overloaded"
        assert "at most 1 requests may wait" in refused.error.message
        await running.aclose()
        assert (await task).token_ids
        await waiting.aclose()


async def test_a_killed_engine_ends_every_stream():
    async with started() as client:
        stream = client.generate("r", [1, 2, 3], LONG)
        await anext(stream)
        os.kill(engine_pid(), signal.SIGKILL)
        with pytest.raises(EngineFailure, match="exit code -9"):
            async for _ in stream:
                pass
        assert "exit code -9" in await client.wait_failed()
        assert "exit code -9" in client.problem()
        with pytest.raises(EngineFailure):
            await collect(client, "later", LONG)


async def test_an_engine_that_stands_still_is_seen():
    async with started() as client:
        os.kill(engine_pid(), signal.SIGSTOP)
        await eventually_async(lambda: client.problem() is not None)
        assert "has not answered for" in client.problem()
        os.kill(engine_pid(), signal.SIGCONT)
        await eventually_async(lambda: client.problem() is None)


async def test_a_client_that_stood_still_itself_takes_no_engine_for_dead(monkeypatch):
    async with started() as client:
        monkeypatch.setattr("octavo_runtime.engine_process.client.SILENT_SECONDS", 1.5)
        time.sleep(4.0)  # the whole event loop
        assert client.problem() is None
        await asyncio.sleep(1.2)
        assert client.problem() is None


@pytest.fixture
def faulty_engine(monkeypatch) -> str:
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    return "faulty_engine"


async def test_a_step_in_which_the_engine_stood_still_is_not_hung(faulty_engine):
    async with started(program=faulty_engine) as client:
        await collect(client, "warm-up", SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True))
        slow = asyncio.create_task(collect(client, "slow", SamplingParams(max_tokens=1)))
        await asyncio.sleep(1.0)
        os.kill(engine_pid(faulty_engine), signal.SIGSTOP)
        await eventually_async(lambda: client.problem() is not None)
        os.kill(engine_pid(faulty_engine), signal.SIGCONT)
        await eventually_async(lambda: "has not answered for" not in (client.problem() or ""))
        while not slow.done():
            assert client.problem() is None, "it is at work"
            await asyncio.sleep(0.1)
        assert len(slow.result()) == 1


async def test_a_busy_engine_is_told_from_one_whose_loop_never_ends(faulty_engine):
    async with started(program=faulty_engine) as client:
        await collect(client, "warm-up", SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True))
        slow = asyncio.create_task(collect(client, "slow", SamplingParams(max_tokens=1)))
        while not slow.done():
            assert client.problem() is None, "it is at work"
            await asyncio.sleep(0.2)
        assert len(slow.result()) == 1

        hanging = asyncio.create_task(collect(client, "hang", SamplingParams(max_tokens=1)))
        await eventually_async(lambda: client.problem() is not None)
        assert "the engine has been at one step for" in client.problem()
        hanging.cancel()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kv_cache_memory": "900Ti"}, "kv_cache_memory: must be at most"),
        ({"max_model_len": 100_000}, "max_model_len: must be at most 8192, the model's own limit, got 100000"),
        ({"kv_cache_memory": "1Mi"}, "max_model_len: must be at most 32, the tokens that the KV cache holds, got 512"),
        ({"model": "/nowhere/model"}, "/nowhere/model"),
        ({"device": "cuda"}, "no CUDA device"),
    ],
)
async def test_an_engine_that_cannot_start_says_why_in_one_line(changes, words):
    with pytest.raises(EngineRefused) as caught:  # octavo serve ends with exit code 2, not 1
        async with started(CONFIG.model_copy(update=changes)):
            pass
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
