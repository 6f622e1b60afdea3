"""The cost model of preemption."""

import pytest
from sequences import BLOCK, make_sequence

from octavo_runtime.engine.kv_cache.block_table import new_table
from octavo_runtime.engine.preemption import PreemptionCost


def cost(setting: str = "auto", *, swap: float = 1e9, prefill: float | None = 1000.0) -> PreemptionCost:
    return PreemptionCost(setting, BLOCK, 1_000_000, swap, prefill)


def sequence(computed: int):
    one = make_sequence(0, max(computed, 1))
    one.computed = computed
    one.tables = [new_table(0, list(range(-(-computed // BLOCK))))]
    return one


@pytest.mark.parametrize("setting", ["swap", "recompute"])
def test_a_setting_is_obeyed_whatever_it_costs(setting):
    assert cost(setting, swap=1.0).mode(sequence(80)) == setting
    assert cost(setting, prefill=1e12).mode(sequence(80)) == setting


def test_auto_takes_the_cheaper_way():
    # 10 blocks of 1 MB there and back at 1 GB/s: 20 ms; 80 tokens at 1000 a second: 80 ms
    assert cost().mode(sequence(80)) == "swap"
    assert cost(swap=2e8).mode(sequence(80)) == "recompute"
    assert cost(prefill=5000.0).mode(sequence(80)) == "recompute"


def test_auto_computes_anew_until_it_has_measured():
    assert cost(prefill=None).mode(sequence(80)) == "recompute"


def test_the_rate_follows_steps_that_say_something_about_it():
    model = cost(prefill=None)
    model.observe(1, 0.02)  # a decode step
    assert model.prefill_tokens_per_second is None
    model.observe(500, 0.5)
    assert model.prefill_tokens_per_second == 1000
    model.observe(500, 0.25)
    assert 1000 < model.prefill_tokens_per_second < 2000
