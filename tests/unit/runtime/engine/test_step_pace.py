"""How many prompt tokens a step may take, and when it counts as hung."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sequences import counts, make_scheduler, make_sequence

from octavo_runtime.engine.step_pace import StepPace


@dataclass
class SlowDevice:
    """Seconds that a step takes: a pass over the weights, each token's products, and attention over what stands before
    it."""

    weights: float
    token: float
    attention: float = 0.0

    def seconds(self, tokens: int, context: int) -> float:
        return self.weights + tokens * (self.token + context * self.attention)


# A model of 7 billion weights in bf16 on two cores, and on a share of them that others leave.
SEVEN_BILLION = SlowDevice(weights=0.7, token=0.018, attention=2e-6)
BUSY = SlowDevice(weights=3.5, token=0.09, attention=1e-5)
FAST = SlowDevice(weights=0.003, token=0.00004)


def measured(device: SlowDevice, most: int = 512) -> StepPace:
    """A pace after a server's warm-up: a step that compiles, and two that draw a token."""
    pace = StepPace(most)
    for seconds in (15.0, device.seconds(1, 0), device.seconds(1, 0)):
        pace.observe(1, 0, seconds)
    return pace


@pytest.mark.parametrize("device", [SEVEN_BILLION, BUSY, FAST])
def test_a_long_prompt_holds_up_no_stream_for_long(device: SlowDevice):
    pace = measured(device)
    scheduler = make_scheduler(blocks=1200, budget=512)
    stream, prompt = make_sequence(0, 20, max_tokens=5000), make_sequence(1, 8000, max_tokens=1)
    longest, steps = 0.0, 0
    scheduler.add(stream)
    while prompt.computed < 8000:
        schedule = scheduler.plan(pace.prompt_tokens)
        if steps:
            assert (0, 1) in counts(schedule), "the stream gets a token in each step"
        tokens = [len(item.token_ids) for item in schedule.plan.slices]
        seconds = device.seconds(sum(tokens), prompt.computed)
        scheduler.commit(schedule)
        for sequence in schedule.sequences:
            if sequence.computed == sequence.known:
                sequence.tokens.append(7)
        if steps:
            longest = max(longest, seconds)
            assert seconds < pace.patience
        pace.observe(sum(tokens), sum(one for one in tokens if one > 1), seconds)
        if not steps:
            scheduler.add(prompt)
        steps += 1
    floor = device.seconds(33, 8000)
    assert longest <= max(floor, 2.0 * 1.5)
    if device is FAST:
        assert steps == 1 + -(-8000 // 511), "what is fast takes the whole budget"


def test_one_slow_step_is_made_up_for():
    pace = measured(FAST)
    assert pace.prompt_tokens == 512
    pace.observe(512, 512, 40.0)
    assert pace.prompt_tokens == 32
    pace.observe(33, 32, FAST.seconds(33, 0))
    assert pace.prompt_tokens == 512


def test_nothing_is_bounded_before_it_was_measured():
    pace = StepPace(4096)
    pace.observe(700, 700, 30.0)
    assert (pace.prompt_tokens, pace.patience) == (4096, 600.0)


def test_patience_grows_with_what_steps_took_and_shrinks_again():
    assert measured(FAST).patience == 30.0
    pace = measured(SlowDevice(weights=4.0, token=0.1))
    assert pace.patience == pytest.approx(41.0)
    for _ in range(40):
        pace.observe(1, 0, 0.01)
    assert pace.patience == 30.0


def test_moves_of_blocks_alone_say_nothing():
    pace = measured(FAST)
    before = pace.prompt_tokens, pace.patience
    pace.observe(0, 0, 5.0)
    assert (pace.prompt_tokens, pace.patience) == before


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600), st.floats(0, 1e4)), max_size=30))
def test_the_bounds_hold_whatever_was_measured(steps):
    pace = StepPace(512)
    for decodes, prompt_tokens, seconds in steps:
        pace.observe(decodes + prompt_tokens, prompt_tokens, seconds)
        assert 32 <= pace.prompt_tokens <= 512
        assert pace.patience >= 30.0
