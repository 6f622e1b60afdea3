"""A device that computes a step only when somebody waits for it: what the engine launches before that must not depend
on the tokens. It draws what a device draws whose every step is waited for, whether steps run one ahead or, as in a
pipeline, several of them side by side."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from late_device import BLOCK, CIRCUMSTANCES, MODEL, LateDevice, answer, happened

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.sampling_params import SamplingParams


@settings(max_examples=150, deadline=None, derandomize=True)
@given(**CIRCUMSTANCES, rows=st.integers(2, 6))
def compare(history, blocks, host_blocks, rows, budget, prefix_caching, mode, window):
    config = {"enable_prefix_caching": prefix_caching, "preemption_mode": mode}
    found, aborted = [], set()
    for leads, depth in ((False, 1), (True, 1), (False, 3)):
        device = LateDevice(blocks, host_blocks, budget, leads=leads, depth=depth, window=window)
        answers, ended = answer(device, history, rows, **config)
        found.append(answers)
        aborted |= ended
    waited, *others = ({key: one for key, one in each.items() if key[0] not in aborted} for each in found)
    assert others == [waited, waited]
    for each in found[1:]:
        for key in found[0].keys() & each.keys():  # of those that were aborted, one may have come further
            assert all(a == b for a, b in zip(found[0][key][:-2], each[key][:-2], strict=False))


def test_what_is_drawn_is_the_same():
    happened.clear()
    compare()
    seen = ("ahead", "side by side", "preempted", "found in the cache", "stopped", "aborted")
    assert [what for what in seen if not happened[what]] == []


def test_a_request_that_ends_by_its_length_is_not_launched_further():
    device = LateDevice(16, 0, 64, leads=True)
    answers, _ = answer(device, [([(5, 0, 3, [], {})], 9)], 2)
    assert len(answers["0", 0]) == 3 + 2
    assert device.device.contents(0, 7)[-1] != -1
    assert device.device.contents(0, 8)[-1] == -1, "the last token was computed in vain"


@pytest.mark.parametrize("leads", [True, False])
def test_outputs_come_with_the_step_that_drew_them(leads):
    """Running ahead delays nobody: the first call brings the first token."""
    device = LateDevice(16, 0, 64, leads=leads)
    engine = Engine(EngineConfig(model=MODEL, device="cpu"), locate(MODEL), executor=device)
    engine.add_request("0", [1, 2, 3], SamplingParams(max_tokens=3, ignore_eos=True))
    assert [len(engine.step()) for _ in range(3)] == [1, 1, 1]
    assert not engine.has_work


def test_an_id_is_free_for_another_request_while_the_aborted_one_is_under_way():
    device = LateDevice(16, 0, 64, leads=True)
    engine = Engine(EngineConfig(model=MODEL, device="cpu"), locate(MODEL), executor=device)
    engine.add_request("0", [1, 2, 3], SamplingParams(max_tokens=9, ignore_eos=True))
    engine.step()
    engine.abort("0")
    engine.add_request("0", [4, 5], SamplingParams(max_tokens=2, ignore_eos=True))
    tokens = [token for _ in range(4) for output in engine.step() for token in output.token_ids]
    assert len(tokens) == 2
    assert not engine.has_work


def test_a_block_is_found_by_the_tokens_that_were_unknown_when_it_was_filled():
    device = LateDevice(16, 0, 64, leads=True)
    engine = Engine(EngineConfig(model=MODEL, device="cpu"), locate(MODEL), executor=device)
    prompt, tokens = list(range(BLOCK - 3)), []
    engine.add_request("0", prompt, SamplingParams(max_tokens=2 * BLOCK, ignore_eos=True))
    while engine.has_work:
        tokens += [token for output in engine.step() for token in output.token_ids]
    engine.add_request("1", prompt + tokens, SamplingParams(max_tokens=1, ignore_eos=True))
    engine.step()
    assert engine.load.prefix_hits == (len(prompt + tokens) - 1) // BLOCK * BLOCK == 2 * BLOCK


def test_steps_side_by_side_share_the_sequences():
    device = LateDevice(64, 0, 64, leads=False, depth=2)
    engine = Engine(EngineConfig(model=MODEL, device="cpu"), locate(MODEL), executor=device)
    for index in range(5):
        engine.add_request(str(index), [index, 1, 2], SamplingParams(max_tokens=8, ignore_eos=True))
    numbers = []
    while engine.has_work:
        numbers.append(len(engine.step()))
    assert numbers[0] == 5, "the prompts"
    assert set(numbers[1:-1]) == {2, 3}
    assert sum(numbers) == 5 * 8
