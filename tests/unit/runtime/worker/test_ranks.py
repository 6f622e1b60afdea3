"""A model in several processes: the tokens are one process's, and a process that is gone is named."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from children import children
from family_models import FAMILIES
from family_models import save as save_family
from patience import eventually
from small_models import make_engine, random_prompts, run, save, shape, tokens_of
from transformers import MixtralConfig

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.engine_process.client import EngineClient
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.protocol.step import NewRow, Slice, StepPlan, TableUpdate
from octavo_runtime.worker import further
from octavo_runtime.worker.executor import make_executor
from octavo_runtime.worker.follower import RankFailed

pytestmark = pytest.mark.slow

MODEL = shape(heads=4, kv_heads=2, head_dim=16, tied=True)
WORDS = 10  # of 32 words each in a row of masks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("model")
    save(MODEL, found)
    return found


def rank_processes() -> list[psutil.Process]:
    return children("octavo_runtime.worker.rank")


@contextmanager
def two_ranks(folder: Path, **config: Any) -> Iterator[tuple[Engine, psutil.Process]]:
    """The engine of two ranks, and the second one's process, which is gone at the end."""
    engine = make_engine(folder, tensor_parallel_size=2, **config)
    [process] = rank_processes()
    yield engine, process
    del engine
    eventually(lambda: not process.is_running(), "the rank ends with its engine")


def test_two_ranks_draw_what_one_process_draws(folder: Path) -> None:
    config = {"kv_cache_memory": "64Ki", "max_model_len": 128, "max_num_batched_tokens": 64}
    prompts = random_prompts(1, 5, 60, 100, 33)
    greedy = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, logprobs=2, prompt_logprobs=1)
    seeded = SamplingParams(temperature=1.0, seed=7, max_tokens=8, n=2, ignore_eos=True, presence_penalty=0.5)
    alone = make_engine(folder, **config)
    with two_ranks(folder, **config) as (engine, _):
        for params in (greedy, seeded):
            expected, found = run(alone, prompts, params), run(engine, prompts, params)
            assert [tokens_of(each) for each in found] == [tokens_of(each) for each in expected]
        assert engine.load.recomputes + engine.load.swaps > 0
        del engine


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_with_whole_experts_draw_what_one_process_draws(size: int, tmp_path: Path) -> None:
    save_mixture(tmp_path)
    config = {"kv_cache_memory": "64Ki", "max_model_len": 64}
    prompts = random_prompts(3, 40, 17)
    greedy = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    expected = run(make_engine(tmp_path, **config), prompts, greedy)
    engine = make_engine(tmp_path, tensor_parallel_size=size, enable_expert_parallel=True, **config)
    assert [tokens_of(each) for each in run(engine, prompts, greedy)] == [tokens_of(each) for each in expected]
    del engine
    eventually(lambda: not rank_processes(), "the ranks end with their engine")


def save_mixture(folder: Path) -> None:
    """A mixture of five experts, which no number of ranks here divides."""
    config = MixtralConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        num_local_experts=5,
        eos_token_id=319,
    )
    save_family(config, folder)


@pytest.mark.parametrize(("shards", "stages"), [(1, 2), (2, 2)])
def test_stages_draw_what_one_process_draws(folder: Path, shards: int, stages: int) -> None:
    config = {"kv_cache_memory": "64Ki", "max_model_len": 128, "max_num_batched_tokens": 64}
    prompts = random_prompts(1, 5, 60, 100, 33)
    greedy = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, logprobs=2, prompt_logprobs=1)
    seeded = SamplingParams(temperature=1.0, seed=7, max_tokens=8, n=2, ignore_eos=True, presence_penalty=0.5)
    alone = make_engine(folder, **config)
    engine = make_engine(folder, tensor_parallel_size=shards, pipeline_parallel_size=stages, **config)
    for params in (greedy, seeded):
        expected, found = run(alone, prompts, params), run(engine, prompts, params)
        assert [tokens_of(each) for each in found] == [tokens_of(each) for each in expected]
    assert shards > 1 or engine.load.recomputes + engine.load.swaps > 0
    del engine
    eventually(lambda: not rank_processes(), "the ranks end with their engine")


def test_stages_with_other_windows_draw_what_one_process_draws(tmp_path: Path) -> None:
    """Of three layers, of which the one in the middle alone sees all tokens, no stage has what the other has."""
    save_family(FAMILIES["gemma 3"], tmp_path, spread=0.2)
    config = {"kv_cache_memory": "256Ki", "max_model_len": 128, "max_num_batched_tokens": 64}
    prompts = random_prompts(100, 5, 60, 33)
    greedy = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
    expected = run(make_engine(tmp_path, **config), prompts, greedy)
    engine = make_engine(tmp_path, pipeline_parallel_size=2, **config)
    assert [tokens_of(each) for each in run(engine, prompts, greedy)] == [tokens_of(each) for each in expected]
    del engine
    eventually(lambda: not rank_processes(), "the rank ends with its engine")


def test_a_stage_that_draws_has_the_masks_of_each_step(folder: Path) -> None:
    config = EngineConfig(
        model=str(folder), device="cpu", dtype="float32", kv_cache_memory="1Mi", pipeline_parallel_size=2
    )
    executor = make_executor(config, locate(str(folder)))
    assert executor.depth == 2
    under_way = []
    for row in range(2):
        [prompt] = random_prompts(9)
        new = NewRow(row, SamplingParams(temperature=0.0), prompt, len(prompt), seed=1)
        tables, slices = [TableUpdate(row, 0, [row])], [Slice(row, 0, prompt, [0])]
        under_way.append(executor.launch(StepPlan([], [new], tables, slices, masked=True)))
    for row, launched in enumerate(under_way):
        masks = np.zeros((1, WORDS), np.int32)
        masks[0, 3] = 1 << row
        assert launched.result(masks).samples[0][0].token_id == 96 + row
    del executor, launched, under_way
    eventually(lambda: not rank_processes(), "the rank ends with its executor")


def test_of_several_ranks_the_first_that_fails_is_named(folder: Path) -> None:
    engine = make_engine(folder, tensor_parallel_size=2, pipeline_parallel_size=2)
    named = {process.cmdline()[4]: process for process in rank_processes()}
    named["2"].kill()
    with pytest.raises(RankFailed) as failed:
        step_forever(engine, random_prompts(20)[0])
    assert str(failed.value) == f"rank 2 of 4 (process {named['2'].pid}) ended with exit code -9"
    del engine
    eventually(lambda: not rank_processes(), "the others end too")


def test_masks_reach_all_ranks(folder: Path) -> None:
    config = EngineConfig(model=str(folder), device="cpu", dtype="float32", kv_cache_memory="1Mi")
    [prompt] = random_prompts(9)
    row = NewRow(0, SamplingParams(temperature=0.0), prompt, len(prompt), seed=1)
    plan = StepPlan([], [row], [TableUpdate(0, 0, [0])], [Slice(0, 0, prompt, [0])], masked=True)
    masks = np.zeros((1, WORDS), np.int32)
    masks[0, 3] = 0b110000
    drawn = []
    for size in (1, 2):
        executor = make_executor(config.model_copy(update={"tensor_parallel_size": size}), locate(str(folder)))
        drawn.append(executor.launch(plan).result(masks).samples[0][0].token_id)
        follow = StepPlan([], [], [], [Slice(0, len(prompt), [drawn[-1]], [0])])
        drawn.append(executor.launch(follow).result(None).samples[0][0].token_id)
        del executor
    assert drawn[:2] == drawn[2:]
    assert drawn[0] in (100, 101)
    eventually(lambda: not rank_processes(), "the rank ends with its executor")


def step_forever(engine: Engine, prompt: list[int]) -> None:
    while True:
        engine.add_request("0", prompt, SamplingParams(temperature=0.0, max_tokens=100, ignore_eos=True))
        while engine.has_work:
            engine.step()


def test_a_rank_that_is_killed_is_named(folder: Path) -> None:
    with two_ranks(folder) as (engine, process):
        process.kill()
        with pytest.raises(RankFailed) as failed:
            step_forever(engine, random_prompts(20)[0])
        assert str(failed.value) == f"rank 1 of 2 (process {process.pid}) ended with exit code -9"
        with pytest.raises(RankFailed, match="rank 1 of 2"):
            engine.prepare_some()
        del engine


def test_a_rank_that_hangs_is_ended_and_named(folder: Path) -> None:
    with two_ranks(folder) as (engine, process):
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(RankFailed) as failed:
            step_forever(engine, random_prompts(20)[0])
        said = f"rank 1 of 2 (process {process.pid}) said nothing for 7 s and was ended"
        assert str(failed.value) == said
        del engine


@pytest.mark.parametrize("stopped", [False, True])
def test_ranks_end_where_the_first_one_is_killed(folder: Path, stopped: bool) -> None:
    program = (
        "import sys; from octavo_runtime.config.engine import EngineConfig; "
        "from octavo_runtime.engine.engine import Engine; "
        "engine = Engine(EngineConfig.model_validate_json(sys.argv[1])); "
        "print('up', flush=True); sys.stdin.read()"
    )
    config = EngineConfig(model=str(folder), device="cpu", kv_cache_memory="1Mi", tensor_parallel_size=2)
    words = [sys.executable, "-c", program, config.model_dump_json()]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "up\n"
        [rank] = psutil.Process(first.pid).children()
        if stopped:
            rank.suspend()
        first.kill()
    eventually(lambda: not rank.is_running(), "the rank ends")


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[EngineClient, psutil.Process, psutil.Process]]:
    """An engine of two ranks in a process of its own: the client, and both ranks, which are gone at the end."""
    config = EngineConfig(model=str(folder), device="cpu", kv_cache_memory="1Mi", tensor_parallel_size=2)
    client = EngineClient()
    try:
        await client.start(config)
        [first] = children("octavo_runtime.engine_process.process")
        [other] = children("octavo_runtime.worker.rank", first.pid)
        yield client, first, other
    finally:
        await client.stop()
    eventually(lambda: not any(rank.is_running() for rank in (first, other)), "both are gone")


async def test_a_first_rank_that_is_silent_is_ended_and_named(folder: Path) -> None:
    async with served(folder) as (client, first, _):
        first.suspend()
        assert await client.wait_failed() == f"rank 0 of 2 (process {first.pid}) said nothing for 8 s and was ended"


async def test_a_first_rank_that_is_killed_is_named(folder: Path) -> None:
    async with served(folder) as (client, first, _):
        first.kill()
        assert await client.wait_failed() == f"rank 0 of 2 (process {first.pid}) ended with exit code -9"


async def test_a_rank_that_stands_still_ends_with_its_engine(folder: Path) -> None:
    async with served(folder) as (_, _, other):
        other.suspend()


def test_a_process_has_one_engine_of_several_ranks(folder: Path) -> None:
    with two_ranks(folder) as (engine, process):
        with pytest.raises(ValueError, match=r"tensor_parallel_size, pipeline_parallel_size: must be 1 .* got 1 and 2"):
            make_engine(folder, pipeline_parallel_size=2)
        assert rank_processes() == [process]
        assert run(engine, random_prompts(5), SamplingParams(max_tokens=2, ignore_eos=True))
        del engine


def test_what_cannot_be_shared_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(further, "start_ranks_of", lambda *_: pytest.fail("no rank is started for it"))
    with pytest.raises(ValueError, match="tensor_parallel_size: must divide the 4 attention heads, got 3"):
        make_engine(folder, tensor_parallel_size=3)
    with pytest.raises(ValueError, match="pipeline_parallel_size: must be at most 2, the model's layers, got 3"):
        make_engine(folder, pipeline_parallel_size=3)
