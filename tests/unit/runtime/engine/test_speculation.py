"""Tokens that are guessed and checked change no answer, whatever happens beside them, and lose no block."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from late_device import BLOCK, CIRCUMSTANCES, MODEL, LateDevice, answer, happened

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.sampling_params import SamplingParams


def guessing(tokens: int, longest: int = 2, shortest: int = 1) -> dict[str, Any]:
    said = {"method": "ngram", "num_speculative_tokens": tokens}
    return {"speculative_config": json.dumps(said | {"prompt_lookup_max": longest, "prompt_lookup_min": shortest})}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(**CIRCUMSTANCES, rows=st.integers(2, 8), tokens=st.integers(1, 6))
def compare(history, blocks, host_blocks, rows, budget, prefix_caching, mode, window, tokens):
    config = {"enable_prefix_caching": prefix_caching, "preemption_mode": mode}
    found, aborted = [], set()
    for said, depth in (({}, 1), (guessing(tokens), 1), (guessing(tokens), 3)):
        device = LateDevice(blocks, host_blocks, budget, leads=True, depth=depth, window=window, vocab=2)
        answers, ended = answer(device, history, rows, **config, **said)
        found.append(answers)
        aborted |= ended
    plain, *others = ({key: one for key, one in each.items() if key[0] not in aborted} for each in found)
    assert others == [plain, plain]


def test_what_is_drawn_is_the_same():
    happened.clear()
    compare()
    seen = ("preempted", "found in the cache", "stopped", "aborted", "guessed", "guessed right")
    assert [what for what in seen if not happened[what]] == []
    assert happened["guessed right"] < happened["guessed"]


def engine(device: LateDevice, rows: int, **said: Any) -> Engine:
    config = EngineConfig.model_validate({"model": MODEL, "device": "cpu", "max_num_seqs": rows, **said})
    return Engine(config, locate(MODEL), executor=device)


def answered(running: Engine, tokens: int, prompt: Sequence[int] = (1, 2, 3), **params: Any) -> tuple[list[int], int]:
    """The tokens of a request, and the steps that they took."""
    running.add_request("0", list(prompt), SamplingParams(max_tokens=tokens, ignore_eos=True, **params))
    found, steps = [], 0
    while running.has_work:
        found += [token for output in running.step() for token in output.token_ids]
        steps += 1
    return found, steps


def test_right_guesses_save_steps_and_are_counted():
    """One token after another, all the same: each step brings the next token and those guessed behind it."""
    running = engine(LateDevice(16, 0, 64, leads=True, vocab=1), 8, **guessing(4))
    tokens, steps = answered(running, 27)
    assert tokens == [0] * 27
    # The prompt's step brings one, and the next ones one each until one stood before.
    assert steps == 1 + 1 + 5
    load = running.load
    assert (load.guess_runs, load.guessed, load.guessed_right) == (5, 20, 20)


def test_guesses_take_what_a_step_has_left():
    running = engine(LateDevice(64, 0, 12, leads=True, vocab=1), 4, **guessing(6))
    for name in "abc":
        running.add_request(name, [1, 2], SamplingParams(max_tokens=20, ignore_eos=True))
    most = 0
    while running.has_work:
        outputs = running.step()
        most = max(most, len(outputs))
    assert most == 4, "a step draws at most max_num_seqs tokens"


def test_answers_whose_tokens_count_for_the_next_ones_are_not_guessed():
    for params in ({"presence_penalty": 0.5}, {"repetition_penalty": 1.1}, {"min_tokens": 9}):
        running = engine(LateDevice(16, 0, 64, leads=False, vocab=1), 8, **guessing(4))
        tokens, steps = answered(running, 9, **params)
        assert (len(tokens), steps, running.load.guessed) == (9, 9, 0)


def test_no_more_is_guessed_than_an_answer_may_have():
    running = engine(LateDevice(16, 0, 64, leads=True, vocab=1), 8, **guessing(6))
    tokens, _ = answered(running, 5)
    assert tokens == [0] * 5
    assert running.load.guessed == running.load.guessed_right == 2
    assert running.load.blocks_used == 0


def test_an_answer_that_has_ended_leaves_as_much_in_the_prefix_cache():
    found: list[list[int]] = []
    for said in ({}, guessing(4)):
        running = engine(LateDevice(32, 0, 64, leads=True, vocab=1), 8, **said)
        found.append([])
        for tokens in range(BLOCK, 3 * BLOCK):
            grown, _ = answered(running, tokens, prompt=[tokens])
            answered(running, 1, prompt=[tokens, *grown])
            found[-1].append(running.load.prefix_hits)
    assert found[1] == found[0]
