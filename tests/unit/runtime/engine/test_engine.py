"""The engine's own behaviour on a small random model: queue and time limits, priorities, aborts, bad requests."""

import math
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import EOS, SHAPES, make_engine, random_prompts, run, save, tokens_of

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.admission import QueueFull
from octavo_runtime.engine.engine import Engine
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams, StructuredOutput
from octavo_runtime.structured.grammars import Grammars

LONG = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save(SHAPES["3 heads of 64, tied"], path)
    return path


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def engine_with_clock(folder, **config):
    clock = Clock()
    defaults = {"model": str(folder), "device": "cpu", "dtype": "float32", "kv_cache_memory": "16Mi"}
    return Engine(EngineConfig.model_validate({**defaults, **config}), clock=clock), clock


def drain(engine):
    outputs = []
    while engine.has_work:
        outputs += engine.step()
        engine.check_integrity()
    return outputs


def test_no_more_than_max_queue_len_wait(folder):
    engine = make_engine(folder, max_queue_len=2, max_num_seqs=1)
    engine.add_request("running", [1, 2], LONG)
    engine.step()
    engine.add_request("a", [1, 2], LONG)
    engine.add_request("b", [1, 2], LONG)
    with pytest.raises(QueueFull, match="max_queue_len: at most 2 requests may wait, 2 do"):
        engine.add_request("c", [1, 2], LONG)
    ended = {output.request_id for output in drain(engine) if output.finish_reason == "length"}
    assert ended == {"running", "a", "b"}


def test_who_waits_too_long_is_told_so_and_who_runs_goes_on(folder):
    engine, clock = engine_with_clock(folder, queue_timeout="5s", max_num_seqs=1)
    engine.add_request("running", [1, 2], LONG)
    engine.add_request("waiting", [1, 2], LONG)
    engine.step()
    clock.now += 6
    [refused] = [output for output in engine.step() if output.error]
    assert (refused.request_id, refused.finish_reason) == ("waiting", "error")
    assert (refused.error.kind, refused.error.message) == ("queue_timeout", "queue_timeout: the request waited over 5s")
    assert "waiting" not in engine
    assert drain(engine)[-1].finish_reason == "length"


def test_the_first_output_says_how_long_the_request_waited(folder):
    engine, clock = engine_with_clock(folder, max_num_seqs=1)
    engine.add_request("first", [1, 2], LONG)
    engine.add_request("second", [1, 2], SamplingParams(max_tokens=2, ignore_eos=True))
    engine.add_request("third", [1, 2], SamplingParams(beam_width=2, max_tokens=2, ignore_eos=True))
    clock.now += 2
    waited: dict[str, list[float | None]] = {}
    while engine.has_work:
        for output in engine.step():
            waited.setdefault(output.request_id, []).append(output.queued)
        clock.now += 1
    assert waited["first"] == [2, *[None] * 29]
    assert waited["second"] == [32, None]
    assert waited["third"][0] == 34


def test_a_deadline_ends_a_request_that_runs(folder):
    engine, clock = engine_with_clock(folder)
    engine.add_request("late", [1, 2], LONG, timeout=3.0)
    engine.add_request("other", [1, 2], LONG)
    engine.step()
    clock.now += 3
    [ended] = [output for output in engine.step() if output.error]
    assert (ended.request_id, ended.error.kind) == ("late", "deadline")
    assert {output.request_id for output in drain(engine)} == {"other"}
    assert engine.load.blocks_used == 0


def test_priority_goes_before_arrival_and_aging_before_priority(folder):
    engine, clock = engine_with_clock(folder, scheduling_policy="priority", priority_aging="10s", max_num_seqs=1)
    engine.add_request("first", [1, 2], LONG)
    engine.step()
    engine.add_request("low", [1, 2], LONG, priority=1)
    engine.add_request("high", [1, 2], LONG, priority=0)
    clock.now += 11
    engine.add_request("high, much later", [1, 2], LONG, priority=0)
    ended = [output.request_id for output in drain(engine) if output.finish_reason]
    assert ended == ["first", "high", "low", "high, much later"]


def test_fcfs_takes_no_notice_of_priority(folder):
    engine = make_engine(folder, max_num_seqs=1)
    for name, priority in [("a", 5), ("b", 0), ("c", -5)]:
        engine.add_request(name, [1, 2], LONG, priority=priority)
    assert [output.request_id for output in drain(engine) if output.finish_reason] == ["a", "b", "c"]


def test_one_answer_of_several_can_be_ended_alone(folder):
    engine = make_engine(folder)
    engine.add_request("r", [1, 2, 3], SamplingParams(n=3, seed=1, max_tokens=20, ignore_eos=True))
    engine.step()
    engine.abort("r", 1)
    outputs = drain(engine)
    assert {output.index for output in outputs} == {0, 2}
    assert [output.finish_reason for output in outputs if output.finish_reason] == ["length", "length"]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_aborts_in_any_state_leave_nothing_behind(folder, data):
    """Plain, forking, beam and structured requests in a tiny pool, aborted at random; the others are not disturbed."""
    engine = _shared_engine(folder)
    for name in list("01234"):  # what an earlier failure left
        engine.abort(name)
    kinds = [
        LONG,
        SamplingParams(n=3, seed=1, max_tokens=12, ignore_eos=True),
        SamplingParams(beam_width=3, max_tokens=8),
    ]
    prompts = random_prompts(3, 40, 20, 33, 5)
    alive = {}
    for index, prompt in enumerate(prompts):
        params = data.draw(st.sampled_from(kinds))
        engine.add_request(str(index), prompt, params)
        alive[str(index)] = params
    answers: dict[str, list[int]] = {name: [] for name in alive}
    while engine.has_work:
        if data.draw(st.integers(0, 9)) == 0 and alive:
            victim = data.draw(st.sampled_from(sorted(alive)))
            engine.abort(victim)
            alive.pop(victim)
        for output in engine.step():
            assert output.request_id in alive
            if output.index == 0:
                answers[output.request_id] += output.token_ids
        engine.check_integrity()
    assert engine.load.blocks_used == 0
    for name, params in alive.items():
        if params is LONG:
            assert len(answers[name]) == 30


_ENGINES: dict[str, Engine] = {}


def _shared_engine(folder) -> Engine:
    """Made once: hypothesis calls the test many times."""
    if str(folder) not in _ENGINES:
        _ENGINES[str(folder)] = make_engine(
            folder,
            kv_cache_memory="112Ki",
            swap_space="1Mi",
            preemption_mode="swap",
            max_num_seqs=4,
            max_model_len=90,
            enable_prefix_caching=False,  # hypothesis wants each run to start from the same state
        )
    return _ENGINES[str(folder)]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([], "prompt must have at least 1 token, got 0"),
        ([5, 300], "prompt token ids must be from 0 to 299, got 300"),
        ([5, -1], "prompt token ids must be from 0 to 299, got -1"),
        ([1] * 256, "prompt must have at most 255 tokens, got 256"),
    ],
)
def test_bad_prompts_are_named(folder, prompt, words):
    engine = make_engine(folder)
    with pytest.raises(InvalidParameter, match=words):
        engine.add_request("r", prompt, LONG)
    assert not engine.has_work


@pytest.mark.parametrize("timeout", [0.0, -1.0, math.nan])
def test_bad_time_limits_are_named(folder, timeout):
    with pytest.raises(InvalidParameter, match="timeout must be above 0 seconds"):
        make_engine(folder).add_request("r", [1], LONG, timeout=timeout)


@pytest.mark.parametrize(
    ("handling", "words"),
    [
        ({"priority": 10**400}, "priority must be from -2147483647 to 2147483647"),
        ({"cache_salt": "\ud800"}, "cache_salt must be valid Unicode"),
    ],
)
def test_hostile_handling_is_refused_and_loses_nothing(folder, handling, words):
    engine = make_engine(folder, scheduling_policy="priority")
    engine.add_request("other", [1], LONG)
    with pytest.raises(InvalidParameter, match=words):
        engine.add_request("r", [1], LONG, **handling)
    assert len(drain(engine)) == 30


def test_requests_whose_grammars_compile_wait_and_can_be_ended(folder, monkeypatch):
    monkeypatch.setattr(Grammars, "compile", lambda _, __: Future())
    engine = make_engine(folder, max_queue_len=2)
    formed = SamplingParams(structured_outputs=StructuredOutput(regex="[ab]+"), max_tokens=4)
    engine.add_request("a", [5, 6], formed)
    engine.add_request("b", [5, 6], formed)
    with pytest.raises(QueueFull, match="at most 2 requests may wait, 2 do"):
        engine.add_request("c", [5, 6], LONG)
    engine.abort("a", 1)
    assert "a" in engine, "it has no such answer"
    engine.abort("a", 0)
    engine.abort("b")
    assert not engine.has_work
    assert engine.load.waiting == 0


def test_ids_are_not_used_twice_at_a_time(folder):
    engine = make_engine(folder)
    engine.add_request("r", [1], LONG)
    with pytest.raises(InvalidParameter, match="request_id must be new, got 'r' again"):
        engine.add_request("r", [1], LONG)
    engine.abort("r")
    engine.add_request("r", [1], LONG)
    assert len(drain(engine)) == 30


def test_token_ids_of_parameters_must_be_in_the_vocabulary(folder):
    with pytest.raises(InvalidParameter, match="logit_bias"):
        make_engine(folder).add_request("r", [1], SamplingParams(logit_bias={300: 1.0}))


def test_a_prompt_is_cut_to_its_last_tokens(folder):
    [prompt] = random_prompts(40)
    params = SamplingParams(temperature=0.0, max_tokens=8, truncate_prompt_tokens=10, ignore_eos=True)
    plain = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
    [cut], [same] = run(make_engine(folder), [prompt], params), run(make_engine(folder), [prompt[-10:]], plain)
    assert tokens_of(cut) == tokens_of(same)


def test_min_tokens_and_eos(folder):
    [[prompt]] = [random_prompts(6)]
    likely_eos = SamplingParams(temperature=0.0, max_tokens=20, min_tokens=5, logit_bias={EOS: 100.0})
    [outputs] = run(make_engine(folder), [prompt], likely_eos)
    tokens = tokens_of(outputs)
    assert len(tokens) == 6
    assert tokens[-1] == EOS
    assert EOS not in tokens[:-1]
    assert outputs[-1].finish_reason == "stop"


def test_the_block_map_shows_who_holds_what(folder):
    engine = make_engine(folder)
    engine.add_request("r", [*range(40)], SamplingParams(n=2, seed=1, max_tokens=10, ignore_eos=True))
    engine.step()
    engine.step()
    shown = engine.block_map()
    assert set(shown.tables) == {"r/0", "r/1"}
    assert shown.tables["r/0"][:2] == shown.tables["r/1"][:2]
    assert [shown.references[block] for block in shown.tables["r/0"]] == [2, 2, 1]
    assert [shown.cached[block] for block in shown.tables["r/0"]] == [True, True, False]
    assert [shown.filled[block] for block in shown.tables["r/0"]] == [16, 16, 9]
    load = engine.load
    assert load.blocks_used == 4
    assert load.slots_wasted == 2 * 7
    drain(engine)
    assert engine.load.blocks_cached > 0
