"""A model on two GPUs: the tokens are one GPU's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import FAMILIES
from family_models import save as save_family
from patience import eventually
from small_models import make_engine, random_prompts, run, save, shape, tokens_of

from children import children
from octavo_runtime.protocol.sampling_params import SamplingParams

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
]

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


def check(folder: Path, way: dict[str, Any]) -> None:
    config = {"device": "cuda", "kv_cache_memory": "2Mi", "max_model_len": 128, "max_num_batched_tokens": 64}
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
