"""Embeddings are transformers' last hidden states, pooled, whatever else the engine does meanwhile."""

import asyncio
import contextlib

import numpy as np
import pytest
import torch
from children import children
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import SHAPES, make_engine, random_prompts, save, tokens_of

from octavo_runtime import LLM, AsyncEngine
from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.admission import QueueFull
from octavo_runtime.engine.engine import Engine
from octavo_runtime.engine_process.client import EngineClient
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams

pytestmark = pytest.mark.slow

MAX_MODEL_LEN = 256
TOLERANCE = 1e-4
LENGTHS = (1, 2, 15, 16, 17, 60, 150)
GREEDY = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
MEAN, LAST = PoolingParams(pooling="mean", normalize=True), PoolingParams(pooling="last", normalize=True)
KINDS = [
    PoolingParams(pooling=pooling, normalize=normalize) for pooling in ("mean", "last") for normalize in (False, True)
]
# Of "3 heads of 64", in float32.
BLOCK_KIB = 16


@pytest.fixture(scope="module", params=["3 heads of 64, tied", "5 heads of 80"])
def any_model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, save(SHAPES[request.param], folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, save(SHAPES["3 heads of 64, tied"], folder)


def expected(reference: torch.nn.Module, prompt: list[int], params: PoolingParams) -> np.ndarray:
    with torch.inference_mode():
        states = reference.model(torch.tensor([prompt])).last_hidden_state[0]
    vector = states.mean(0) if params.pooling == "mean" else states[-1]
    return (torch.nn.functional.normalize(vector, dim=0) if params.normalize else vector).numpy()


def vector(output) -> np.ndarray:
    assert (output.finish_reason, output.error, output.token_ids) == ("stop", None, [])
    return np.frombuffer(output.embedding, "<f4")


def drain(engine: Engine) -> dict[str, list]:
    """All outputs by request, blocks checked after every step; nothing may be left over."""
    outputs: dict[str, list] = {}
    while engine.has_work:
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
        engine.check_integrity()
    assert engine.load.blocks_used == engine.load.swapped == 0
    return outputs


def check_mixed(engine: Engine, reference: torch.nn.Module) -> None:
    """Embeddings of each kind and length among generations, each right."""
    asked = {}
    for index, prompt in enumerate(random_prompts(*LENGTHS)):
        engine.add_request(f"g{index}", prompt, GREEDY)
        params = KINDS[index % len(KINDS)]
        for name, own in ((f"a{index}", prompt), (f"b{index}", prompt[::-1])):
            engine.add_embedding(name, own, params)
            asked[name] = own, params
    outputs = drain(engine)
    for name, (prompt, params) in asked.items():
        [output] = outputs[name]
        assert vector(output) == pytest.approx(expected(reference, prompt, params), abs=TOLERANCE)
    for index, prompt in enumerate(random_prompts(*LENGTHS)):
        answer = tokens_of(outputs[f"g{index}"])
        with torch.inference_mode():
            scores = reference(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        assert len(answer) == GREEDY.max_tokens
        assert all(row[token] >= row.max() - 1e-3 for row, token in zip(scores, answer, strict=True))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_equal_transformers_beside_generations(any_model, device):
    folder, reference = any_model
    check_mixed(make_engine(folder, device=device), reference)


@pytest.mark.parametrize("mode", ["recompute", "swap"])
def test_equal_transformers_when_blocks_run_out(model, mode):
    folder, reference = model
    tight = {"kv_cache_memory": f"{14 * BLOCK_KIB}Ki", "max_model_len": 176, "swap_space": "1Mi"}
    engine = make_engine(folder, preemption_mode=mode, max_num_batched_tokens=24, max_num_seqs=8, **tight)
    check_mixed(engine, reference)
    assert engine.load.recomputes > 0, "of a mean, whatever the mode"
    assert (engine.load.swaps > 0) == (mode == "swap")


@settings(max_examples=12, deadline=None)
@given(budget=st.integers(16, 300), block_size=st.sampled_from([16, 32]), caching=st.booleans())
def test_equal_transformers_in_chunks_of_any_size(model, budget, block_size, caching):
    folder, reference = model
    chunks = {"max_num_batched_tokens": budget, "max_num_seqs": 4, "block_size": block_size}
    check_mixed(make_engine(folder, enable_prefix_caching=caching, **chunks), reference)


@pytest.mark.parametrize("params", KINDS)
def test_the_prefix_cache_loses_no_token(model, params):
    """A mean takes nothing from it, a last state takes what is there; both leave their blocks to others."""
    folder, reference = model
    engine = make_engine(folder)
    [prompt] = random_prompts(70)
    for _ in range(3):
        engine.add_embedding("e", prompt, params)
        [output] = drain(engine)["e"]
        assert vector(output) == pytest.approx(expected(reference, prompt, params), abs=TOLERANCE)
        load = engine.load
    assert output.cached_tokens == (0 if params.pooling == "mean" else 64)
    assert load.prefix_queries == (0 if params.pooling == "mean" else 3 * 70)
    assert load.prefix_hits == (0 if params.pooling == "mean" else 2 * 64)
    engine.add_request("g", prompt, GREEDY)
    assert drain(engine)["g"][0].cached_tokens == 64


@pytest.mark.parametrize("params", [MEAN, LAST])
def test_a_prompt_that_gave_way_half_done_starts_anew_or_comes_back(model, params):
    """A mean's sum lies with its row, so it is computed anew even where all others are swapped."""
    folder, reference = model
    small = {"kv_cache_memory": f"{7 * BLOCK_KIB}Ki", "swap_space": "1Mi", "max_model_len": 112}
    engine = make_engine(folder, preemption_mode="swap", max_num_batched_tokens=16, max_num_seqs=2, **small)
    first, second = random_prompts(30, 70)
    engine.add_request("g", first, SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True))
    while not engine.step():
        pass
    engine.add_embedding("e", second, params)
    [output] = drain(engine)["e"]
    load = engine.load
    assert (load.recomputes, load.swaps) == ((1, 0) if params is MEAN else (0, 1))
    assert vector(output) == pytest.approx(expected(reference, second, params), abs=TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_aborts_in_any_state_leave_nothing_behind(model, data):
    """Embeddings and generations in a tiny pool, aborted at random; the others are not disturbed."""
    folder, reference = model
    engine = _shared_engine(folder)
    for name in list("01234"):  # what an earlier failure left
        engine.abort(name)
    prompts = dict(zip("01234", random_prompts(20, 40, 88, 33, 5), strict=True))
    kinds = {name: data.draw(st.sampled_from([*KINDS, GREEDY])) for name in prompts}
    for name, kind in kinds.items():
        if isinstance(kind, PoolingParams):
            engine.add_embedding(name, prompts[name], kind)
        else:
            engine.add_request(name, prompts[name][:60], kind)
    alive, outputs = set(kinds), {name: [] for name in kinds}
    while engine.has_work:
        running = sorted(name for name in alive if name in engine)
        if running and data.draw(st.integers(0, 7)) == 0:
            victim = data.draw(st.sampled_from(running))
            engine.abort(victim)
            alive.remove(victim)
        for output in engine.step():
            assert output.request_id in alive
            outputs[output.request_id].append(output)
        engine.check_integrity()
    assert engine.load.blocks_used == engine.load.swapped == 0
    for name in alive:
        if kinds[name] is GREEDY:
            assert len(tokens_of(outputs[name])) == GREEDY.max_tokens
        else:
            [output] = outputs[name]
            assert vector(output) == pytest.approx(expected(reference, prompts[name], kinds[name]), abs=TOLERANCE)


_ENGINES: dict[str, Engine] = {}


def _shared_engine(folder) -> Engine:
    """Made once: hypothesis calls the test many times."""
    if str(folder) not in _ENGINES:
        _ENGINES[str(folder)] = make_engine(
            folder,
            kv_cache_memory=f"{7 * BLOCK_KIB}Ki",
            swap_space="1Mi",
            preemption_mode="swap",
            max_num_seqs=4,
            max_num_batched_tokens=16,
            max_model_len=90,
            enable_prefix_caching=False,  # hypothesis wants each run to start from the same state
        )
    return _ENGINES[str(folder)]


@pytest.mark.parametrize("params", KINDS)
def test_a_prompt_may_fill_the_models_length(model, params):
    folder, reference = model
    engine = make_engine(folder)
    [prompt] = random_prompts(MAX_MODEL_LEN)
    engine.add_embedding("e", prompt, params)
    [output] = drain(engine)["e"]
    assert vector(output) == pytest.approx(expected(reference, prompt, params), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([], "prompt must have at least 1 token, got 0"),
        ([1] * 257, "prompt must have at most 256 tokens, got 257"),
        ([300], "prompt token ids must be from 0 to 299, got 300"),
    ],
)
def test_bad_prompts_are_named(model, prompt, words):
    engine = make_engine(model[0])
    with pytest.raises(InvalidParameter, match=words):
        engine.add_embedding("e", prompt, MEAN)
    assert not engine.has_work


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"pooling": "best"}, "pooling must be mean, last, cls or max, got 'best'"),
        ({"pooling": ["mean"]}, r"pooling must be mean, last, cls or max, got \['mean'\]"),
        ({"normalize": 1}, "normalize must be true or false, got 1"),
    ],
)
def test_bad_parameters_are_named(given_, words):
    with pytest.raises(InvalidParameter, match=words):
        PoolingParams(**given_)


def test_the_queue_and_time_limits_hold(model):
    engine = make_engine(model[0], max_queue_len=1, max_num_seqs=1, max_num_batched_tokens=16)
    engine.add_embedding("running", [1] * 40, MEAN)
    engine.step()
    engine.add_embedding("late", [1] * 40, LAST, timeout=1e-9)
    with pytest.raises(QueueFull, match="max_queue_len: at most 1 requests may wait, 1 do"):
        engine.add_embedding("refused", [1], MEAN)
    outputs = drain(engine)
    assert set(outputs) == {"running", "late"}
    assert outputs["late"][0].error.kind == "deadline"


@pytest.mark.parametrize("params", [MEAN, LAST])
def test_sixteen_bits_come_close_and_have_length_one(model, params):
    folder, reference = model
    engine = make_engine(folder, dtype="bfloat16")
    [prompt] = random_prompts(50)
    engine.add_embedding("e", prompt, params)
    found = vector(drain(engine)["e"][0])
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-6)
    assert found @ expected(reference, prompt, params) > 0.99


@contextlib.asynccontextmanager
async def started(folder, **config):
    client = EngineClient()
    defaults = {"model": str(folder), "device": "cpu", "dtype": "float32", "kv_cache_memory": "16Mi"}
    try:
        await client.start(EngineConfig.model_validate({**defaults, **config}))
        yield client
    finally:
        await client.stop()


async def test_over_the_process_border(model):
    folder, reference = model
    prompts = random_prompts(5, 70, 200)
    async with started(folder, max_num_batched_tokens=16, max_num_seqs=2) as client:
        assert client.ready.hidden_size == reference.config.hidden_size
        outputs = await asyncio.gather(*(client.embed(f"e{len(one)}", one, LAST) for one in prompts))
        for prompt, output in zip(prompts, outputs, strict=True):
            assert vector(output) == pytest.approx(expected(reference, prompt, LAST), abs=TOLERANCE)
        refused = await client.embed("r", [300], MEAN)
        assert (refused.finish_reason, refused.error.kind, refused.error.field) == ("error", "invalid", "prompt")


async def test_cancelling_aborts(model):
    async with started(model[0]) as client:
        [engine] = children("octavo_runtime.engine_process.process")
        engine.suspend()
        leaving = asyncio.create_task(client.embed("l", [1] * 100, LAST))
        await asyncio.sleep(0.5)  # it is on its way
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await asyncio.sleep(0.5)  # so is its end
        engine.resume()
        await client.embed("l", [1, 2], LAST)
        assert client.load.prefix_queries == 2, "nothing was computed for the one that left"


async def test_offline_and_in_asyncio_with_the_real_model():
    texts = ["The cat sat on the mat.", "A kitten lay on the rug.", "Interest rates rose by half a point."]
    settings_ = {"device": "cpu", "dtype": "float32", "kv_cache_memory": "64Mi"}
    llm = LLM("builtin://smollm2", **settings_)
    found = llm.embed(texts, use_tqdm=False)
    assert (found.shape, found.dtype) == ((3, 576), np.float32)
    assert found[0] @ found[1] > found[0] @ found[2]
    assert llm.embed("one", "last", normalize=False).shape == (1, 576)
    assert llm.embed([1, 2, 3]).shape == (1, 576)
    assert llm.embed([]).shape == (0, 576)
    with pytest.raises(InvalidParameter, match="prompt must have at least 1 token, got 0"):
        llm.embed(["fine", ""])
    assert not llm._engine.has_work
    async with await AsyncEngine.start("builtin://smollm2", **settings_) as engine:
        again = await asyncio.gather(*(engine.embed(text) for text in texts))
        assert np.stack(again) == pytest.approx(found, abs=TOLERANCE)
        with pytest.raises(InvalidParameter, match="pooling must be mean, last, cls or max, got 'first'"):
            await engine.embed("a", "first")
        with pytest.raises(InvalidParameter, match="prompt must have at least 1 token, got 0"):
            await engine.embed("")
