"""A model on two GPUs: the tokens are one GPU's, and a process that is gone is named."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from children import children
from family_models import FAMILIES
from family_models import save as save_family
from patience import eventually
from small_models import make_engine, random_prompts, run, save, shape, tokens_of

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine_process.client import EngineClient, EngineFailure
from octavo_runtime.protocol.sampling_params import SamplingParams

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
]

CONFIG = {"device": "cuda", "kv_cache_memory": "2Mi", "max_num_seqs": 8}  # few graphs
LIMIT_SECONDS = 10.0  # in which all ends once a rank is gone
GREEDY = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
SEEDED = SamplingParams(temperature=1.0, seed=7, max_tokens=8, n=2, ignore_eos=True, presence_penalty=0.5)
WAYS = {
    "shares of layers": {"tensor_parallel_size": 2},
    "stages": {"pipeline_parallel_size": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_two_gpus_draw_what_one_draws(way: str, tmp_path: Path) -> None:
    save(shape(heads=4, kv_heads=2, head_dim=64, tied=True), tmp_path)
    check(tmp_path, WAYS[way])


@pytest.mark.parametrize("family", ["mixtral", "gemma 3", "deepseek v3"])
@pytest.mark.parametrize("way", WAYS)
def test_two_gpus_share_other_families(way: str, family: str, tmp_path: Path) -> None:
    save_family(FAMILIES[family], tmp_path, spread=0.2)
    check(tmp_path, WAYS[way])


def test_two_gpus_have_whole_experts(tmp_path: Path) -> None:
    save_family(FAMILIES["mixtral"], tmp_path, spread=0.2)
    check(tmp_path, {"tensor_parallel_size": 2, "enable_expert_parallel": True})


def test_peer_access_draws_what_nccl_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two numbers both make the same sum; in 16 bits, which peers send. Each engine is its process's first one."""
    save(shape(heads=4, kv_heads=2, head_dim=64, tied=True), tmp_path)
    config = EngineConfig.model_validate(
        {"model": str(tmp_path), **CONFIG, "dtype": "float16", "tensor_parallel_size": 2}
    )
    by_peers = asyncio.run(answers(config))
    monkeypatch.setenv("NCCL_P2P_DISABLE", "1")
    assert asyncio.run(answers(config)) == by_peers


async def answers(config: EngineConfig) -> list[list[int]]:
    """Greedy tokens of an engine in a process of its own."""
    client = EngineClient()
    await client.start(config)

    async def answer(index: int, prompt: list[int]) -> list[int]:
        outputs = [output async for output in client.generate(str(index), prompt, GREEDY)]
        assert all(output.error is None for output in outputs)
        return tokens_of(outputs)

    try:
        return [await answer(*numbered) for numbered in enumerate(random_prompts(1, 5, 60, 100, 33))]
    finally:
        await client.stop()


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGKILL, "rank 1 of 2 (process {}) ended with exit code -9"),
        (signal.SIGSTOP, "rank 1 of 2 (process {}) said nothing for 7 s and was ended"),
    ],
)
def test_a_rank_that_is_gone_ends_the_engine(number: int, line: str, tmp_path: Path) -> None:
    save(shape(heads=4, kv_heads=2, head_dim=64, tied=True), tmp_path)
    config = {"model": str(tmp_path), **CONFIG, "tensor_parallel_size": 2}
    said, seconds, rank = asyncio.run(ask_until_it_fails(EngineConfig.model_validate(config), number))
    assert said == line.format(rank.pid)
    assert seconds < LIMIT_SECONDS
    assert not rank.is_running()


async def ask_until_it_fails(config: EngineConfig, number: int) -> tuple[str, float, psutil.Process]:
    """The line that clients get once the second rank has a signal, how many seconds it took, and that rank."""
    client = EngineClient()
    await client.start(config)
    [rank] = children("octavo_runtime.worker.rank", recursive=True)
    try:
        began = 0.0
        for index in range(1000):
            async for output in client.generate(str(index), random_prompts(20)[0], GREEDY):
                assert output.error is None
            if index == 3:
                os.kill(rank.pid, number)
                began = time.monotonic()
    except EngineFailure as failure:
        return str(failure), time.monotonic() - began, rank
    finally:
        await client.stop()
    raise AssertionError("it does not fail")


def check(folder: Path, way: dict[str, Any]) -> None:
    config = {**CONFIG, "max_model_len": 128, "max_num_batched_tokens": 64}
    prompts = random_prompts(1, 5, 60, 100, 33)
    alone, shared = make_engine(folder, **config), make_engine(folder, **config, **way)
    for params in (GREEDY, SEEDED):
        for _ in range(2):  # the second time as graphs of steps with prompts
            expected, found = run(alone, prompts, params), run(shared, prompts, params)
            assert [tokens_of(each) for each in found] == [tokens_of(each) for each in expected]
        while shared.prepare_some():
            pass
    del shared
    eventually(lambda: not children("octavo_runtime.worker.rank"), "the rank ends with its engine")
