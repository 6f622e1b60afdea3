"""Greedy tokens of smollm2 in float32 equal transformers' (exactness/make_reference.py), whatever the scheduler
does."""

import json
from pathlib import Path

import pytest
import torch

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.protocol.sampling_params import SamplingParams

pytestmark = pytest.mark.slow

CASES = json.loads((Path(__file__).parent / "exactness" / "smollm2_greedy.json").read_text())
# Two correct engines round differently; only where the two best scores nearly tie may their tokens part.
TIE = 1e-3

SETTINGS = {
    "mixed lengths in one batch": {},
    "prompts in small chunks": {"max_num_batched_tokens": 64},
    "preempted, computed anew": {"kv_cache_memory": "100Mi", "max_model_len": 1024, "preemption_mode": "recompute"},
    "preempted, from host memory": {
        "kv_cache_memory": "100Mi",
        "max_model_len": 1024,
        "preemption_mode": "swap",
        "swap_space": "256Mi",
    },
    "large blocks, few rows": {"block_size": 64, "max_num_seqs": 7},
}

# On a CPU: all prompts and tokens in a plain batch, and for what else the scheduler does every second prompt, with as
# many tokens as show it. Few rows take long.
SHARES = {
    "mixed lengths in one batch": (slice(None), 64),
    "prompts in small chunks": (slice(0, None, 2), 24),
    "preempted, computed anew": (slice(0, None, 2), 40),
    "preempted, from host memory": (slice(1, None, 2), 40),
    "large blocks, few rows": (slice(0, None, 4), 24),
}


def generate(engine: Engine, cases: list[dict], length: int) -> list[list[int]]:
    """So many greedy tokens for each reference prompt, blocks checked after every step."""
    params = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
    answers: dict[str, list[int]] = {}
    for index, case in enumerate(cases):
        engine.add_request(str(index), case["prompt"], params)
        answers[str(index)] = []
    while engine.has_work:
        for output in engine.step():
            answers[output.request_id] += output.token_ids
        engine.check_integrity()
    return list(answers.values())


def check(answers: list[list[int]], cases: list[dict], length: int) -> None:
    for case, answer in zip(cases, answers, strict=True):
        assert len(answer) == length
        for step, (token, expected) in enumerate(zip(answer, case["tokens"][:length], strict=True)):
            if token != expected:
                assert case["gaps"][step] < TIE, f"step {step} of prompt {case['prompt'][:8]}...: {token} != {expected}"
                break


def test_the_reference_is_whole():
    assert len(CASES) == 50
    assert all(len(case["tokens"]) == len(case["gaps"]) == 64 for case in CASES)
    assert max(len(case["prompt"]) for case in CASES) > 500


@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_equal_the_reference_on_cpu(name):
    engine = Engine(EngineConfig(model="builtin://smollm2", device="cpu", dtype="float32", **SETTINGS[name]))
    share, length = SHARES[name]
    check(generate(engine, CASES[share], length), CASES[share], length)
    assert (engine.load.recomputes > 0) == ("anew" in name)
    assert (engine.load.swaps > 0) == ("host memory" in name)
    assert engine.load.blocks_used == 0


@pytest.mark.gpu
@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_equal_the_reference_on_gpu(builtin_model, name):
    assert torch.cuda.is_available(), "make test-gpu runs on a machine with a CUDA device"
    engine = Engine(EngineConfig(model=builtin_model, device="cuda", dtype="float32", **SETTINGS[name]))
    check(generate(engine, CASES, 64), CASES, 64)
