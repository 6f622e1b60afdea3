"""A step of decodes alone, made from what lies on the device, draws the tokens that the step from packed tensors draws.
On a CPU the same operations run one by one; on a GPU they are captured."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from family_models import save as save_family
from latent_models import LATENT_FAMILIES
from small_models import SHAPES, make_engine, random_prompts, run, save, tokens_of

from octavo_runtime.engine.engine import Engine
from octavo_runtime.planning.known_models import find_spec
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.worker.decode_graphs import DecodeGraphs, padded_size
from octavo_runtime.worker.graph_arena import reserve

LENGTHS = (1, 5, 16, 17, 60, 150, 33)
PARAMS = {
    "greedy": SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True),
    "seeded": SamplingParams(temperature=0.8, seed=5, max_tokens=20, ignore_eos=True),
    "truncated": SamplingParams(temperature=1.0, top_k=5, top_p=0.9, seed=5, max_tokens=20),
    "penalised": SamplingParams(temperature=0.0, repetition_penalty=1.3, max_tokens=20),
    "with logprobs": SamplingParams(temperature=0.7, seed=1, logprobs=2, prompt_logprobs=1, max_tokens=12),
    "several answers": SamplingParams(temperature=0.9, seed=3, n=3, max_tokens=12),
}
SETTINGS = {
    "plain": {},
    "chunks of 16": {"max_num_batched_tokens": 16, "max_num_seqs": 8},
    "preempted": {"kv_cache_memory": "230Ki", "max_model_len": 190, "preemption_mode": "swap"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(SHAPES["3 heads of 64, tied"], folder)
    return folder


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def make(request):
    # By default an engine pins gigabytes of host memory, which takes seconds.
    return partial(make_engine, device=request.param, swap_space="1Mi")


def runner(engine: Engine) -> SimpleNamespace:
    return engine._executor


def with_graphs(engine: Engine) -> Engine:
    """The engine with decode steps made on the device, as a GPU's are."""
    one = runner(engine)
    tables = one._rows.block_tables
    cache = one._kv_cache.device
    arena = reserve(one._decoder.spec, cache, padded_size(tables.shape[1]), 0)
    one._graphs = DecodeGraphs(one._decoder, cache, one._sampler.hashes, *tables.shape[1:], arena)
    return engine


def without_graphs(engine: Engine) -> Engine:
    runner(engine)._graphs = runner(engine)._token_graphs = None
    return engine


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("params", PARAMS)
def test_the_tokens_are_the_same(make, folder, params, settings):
    prompts = random_prompts(*LENGTHS)
    answers = []
    for turn in (with_graphs, without_graphs):
        engine = turn(make(folder, **SETTINGS[settings]))
        outputs = run(engine, prompts, PARAMS[params])
        answers.append([[tokens_of(one, index) for index in range(PARAMS[params].n)] for one in outputs])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("settings", SETTINGS)
def test_latents_too(make, settings, tmp_path):
    save_family(LATENT_FAMILIES["deepseek v3"], tmp_path)
    fields = SETTINGS[settings] | ({"kv_cache_memory": "130Ki"} if settings == "preempted" else {})
    prompts = random_prompts(*LENGTHS)
    with_them, without = (
        [tokens_of(one) for one in run(turn(make(tmp_path, **fields)), prompts, PARAMS["seeded"])]
        for turn in (with_graphs, without_graphs)
    )
    assert with_them == without


@pytest.mark.parametrize("params", ["greedy", "penalised"])
def test_requests_that_share_prefixes_get_their_own_tokens(make, folder, params):
    """Rows that begin alike are computed side by side, whatever the order of their requests."""
    prefixes, tails = random_prompts(40, 56, seed=1), random_prompts(*[6] * 8, seed=2)
    prompts = [prefixes[index % 2] + tail for index, tail in enumerate(tails)]
    with_them, without = (
        [tokens_of(one) for one in run(turn(make(folder)), prompts, PARAMS[params])]
        for turn in (with_graphs, without_graphs)
    )
    assert with_them == without


def test_a_crowd_of_all_kinds_draws_the_same_tokens(make, folder):
    """Steps that lead and steps that do not take turns."""
    kinds = [*PARAMS.values(), SamplingParams(beam_width=2, max_tokens=8)]
    answers = []
    for turn in (with_graphs, without_graphs):
        engine, found = turn(make(folder, max_num_batched_tokens=64, max_num_seqs=12)), {}
        for index, prompt in enumerate(random_prompts(*LENGTHS * 4)):
            engine.add_request(str(index), prompt, kinds[index % len(kinds)] if index % 2 else PARAMS["greedy"])
        while engine.has_work:
            for output in engine.step():
                found.setdefault((output.request_id, output.index), []).extend(output.token_ids)
            engine.check_integrity()
        answers.append(found)
    assert answers[0] == answers[1]


def test_plain_steps_are_launched_before_the_last_one_is_known(make, folder, monkeypatch):
    engine = with_graphs(make(folder, max_num_batched_tokens=16, max_num_seqs=8))
    happened, one = [], runner(engine)
    launch = one.launch

    def watched(plan):
        launched, step = launch(plan), len(plan.slices)
        happened.append(("launched", step))
        return replace(launched, result=lambda masks: happened.append(("known", step)) or launched.result(masks))

    monkeypatch.setattr(one, "launch", watched)
    run(engine, random_prompts(4, 30), SamplingParams(temperature=0.5, max_tokens=4, ignore_eos=True))
    order = [what for what, _ in happened]
    assert order == ["launched", *["launched", "known"] * (len(order) // 2 - 1), "known"]


def test_decodes_alone_take_this_way(make, folder, monkeypatch):
    engine = with_graphs(make(folder))
    graphs, counts = runner(engine)._graphs, []
    compute = graphs.run
    monkeypatch.setattr(graphs, "run", lambda slices, *more: counts.append(len(slices)) or compute(slices, *more))
    run(engine, random_prompts(4, 9, 30), PARAMS["greedy"])
    assert counts == [3] * 19


def test_sizes_are_captured_ahead_one_at_a_time_largest_first(make, folder):
    engine = with_graphs(make(folder, max_num_seqs=13))
    graphs, seen = runner(engine)._graphs, []
    while graphs.capture_next():
        seen.append(min(graphs._steps))
    assert seen == [16, 8, 4, 2, 1]
    prompts = random_prompts(*LENGTHS)
    expected = run(without_graphs(make(folder)), prompts, PARAMS["greedy"])
    assert list(map(tokens_of, run(engine, prompts, PARAMS["greedy"]))) == list(map(tokens_of, expected))
    assert len(graphs._steps) == 5


@pytest.mark.parametrize(
    ("count", "size"),
    [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (64, 64), (65, 80), (257, 288), (513, 576), (1024, 1024)],
)
def test_steps_are_padded_to_few_sizes(count, size):
    assert padded_size(count) == size


def test_a_table_longer_than_the_step_is_written_before_it():
    """More entries than the step has sequences, one of them changed twice."""
    from octavo_runtime.protocol.step import TableUpdate

    windowed = replace(find_spec("SmolLM2-135M"), window=16, windowed_layers=frozenset({1}))
    kv_cache = torch.zeros(1, 2, 8, 16, 1, 16)
    graphs = DecodeGraphs(SimpleNamespace(spec=windowed), kv_cache, torch.zeros(3, dtype=torch.int32), 2, 6, None)
    graphs.note([TableUpdate(1, 0, [4, 5, 6]), TableUpdate(1, 2, [7, 3])])
    entries, blocks = graphs._take_changes(2)
    assert (len(entries), len(blocks)) == (0, 0)
    assert graphs._tables[0, 1].tolist() == [4, 5, 7, 3, 0, 0]
    graphs.note([TableUpdate(0, 1, [2]), TableUpdate(0, 1, [6]), TableUpdate(1, 4, [9], group=1)])
    entries, blocks = graphs._take_changes(2)
    assert (entries.tolist(), blocks.tolist()) == ([1, (3 + 1) * 6 + 4], [6, 9])
