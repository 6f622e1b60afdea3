"""A crowd of mixed requests with random aborts: nothing is left in use, memory stays flat, and no answer is lost.

A slice of it runs here; `make soak` sets OCTAVO_SOAK and runs 2,000 requests, printing what docs/reliability.md
records."""

import gc
import json
import os
import random
import time
from itertools import pairwise

import psutil
import pytest

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.protocol.sampling_params import SamplingParams, StructuredOutput

pytestmark = pytest.mark.slow

SOAK = "OCTAVO_SOAK" in os.environ
REQUESTS = 2000 if SOAK else 60
AT_ONCE = 24
ABORT_CHANCE = 0.2
# What the process may gain in the last quarter of the requests. The quarters before fill what is kept for shapes met
# once, such as the kernels that oneDNN makes; a slice is all warm-up.
FLAT_BYTES = (64 if SOAK else 256) * 2**20

SCHEMA = json.dumps(
    {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
)
KINDS = (
    lambda rng: SamplingParams(temperature=0.0, max_tokens=rng.randint(1, 40), ignore_eos=True),
    lambda rng: SamplingParams(temperature=0.8, top_p=0.95, seed=rng.randint(0, 99), max_tokens=rng.randint(1, 60)),
    lambda rng: SamplingParams(n=3, top_k=40, min_p=0.02, max_tokens=rng.randint(1, 30), logprobs=2),
    lambda rng: SamplingParams(beam_width=3, max_tokens=rng.randint(1, 12)),
    lambda rng: SamplingParams(presence_penalty=0.5, repetition_penalty=1.1, max_tokens=20, logit_bias={17: -100.0}),
    lambda rng: SamplingParams(max_tokens=30, structured_outputs=StructuredOutput(json=SCHEMA)),
    lambda rng: SamplingParams(max_tokens=5, prompt_logprobs=1),
)


@pytest.mark.timeout(3600)
def test_a_crowd_leaves_nothing_behind(capsys):
    rng = random.Random(0)
    engine = Engine(
        EngineConfig(
            model="builtin://smollm2",
            device="cpu",
            kv_cache_memory="24Mi",
            swap_space="12Mi",
            preemption_mode="auto",
            max_num_seqs=16,
            max_model_len=512,
            scheduling_policy="priority",
        )
    )
    heads = [[rng.randint(100, 20_000) for _ in range(length)] for length in (40, 120, 250)]
    memory, alive = psutil.Process(), {}
    started, sent, aborted, finished, tokens = time.monotonic(), 0, 0, 0, 0
    memory_at: list[int] = []  # after each quarter of the requests
    while sent < REQUESTS or engine.has_work:
        while sent < REQUESTS and len(alive) < AT_ONCE:
            prompt = rng.choice([[], *heads]) + [rng.randint(100, 20_000) for _ in range(rng.randint(1, 100))]
            params = rng.choice(KINDS)(rng)
            engine.add_request(str(sent), prompt, params, priority=rng.randint(0, 2), cache_salt=rng.choice(["", "a"]))
            alive[str(sent)] = params.num_answers
            sent += 1
        if rng.random() < ABORT_CHANCE * AT_ONCE / 40:
            victim = rng.choice(sorted(alive))
            engine.abort(victim)
            del alive[victim]
            aborted += 1
        for output in engine.step():
            assert output.error is None, output.error
            tokens += len(output.token_ids)
            if output.finish_reason is not None:
                alive[output.request_id] -= 1
                if alive[output.request_id] == 0:
                    del alive[output.request_id]
                    finished += 1
        engine.check_integrity()
        if finished + aborted >= (len(memory_at) + 1) * REQUESTS // 4:
            gc.collect()
            memory_at.append(memory.memory_info().rss)
    grown = [after - before for before, after in pairwise(memory_at)]
    load = engine.load
    assert not alive
    assert finished + aborted == REQUESTS
    assert (load.running, load.waiting, load.swapped, load.blocks_used, load.slots_wasted) == (0, 0, 0, 0, 0)
    assert load.recomputes + load.swaps > 0
    assert load.prefix_hits > 0
    assert grown[-1] < FLAT_BYTES
    with capsys.disabled():
        if SOAK:
            print(
                f"\nsoak: {REQUESTS} requests, {finished} finished, {aborted} aborted, {tokens} tokens in "
                f"{time.monotonic() - started:.0f} s; {load.recomputes} recomputed, {load.swaps} swapped, "
                f"{load.prefix_hits} of {load.prefix_queries} prompt tokens cached; blocks in use at the end: "
                f"{load.blocks_used}; memory from quarter to quarter: "
                + ", ".join(f"{quarter / 2**20:+.0f} MiB" for quarter in grown)
            )
