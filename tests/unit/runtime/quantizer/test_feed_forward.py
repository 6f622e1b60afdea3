"""What the experts of a mixture are calibrated by."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo_runtime.models.loading.tensor_shapes import Fused
from octavo_runtime.quantizer import gptq
from octavo_runtime.quantizer.feed_forward import FeedForward, LayerInputs, Routed
from octavo_runtime.quantizer.inputs import Inputs, output_error
from octavo_runtime.quantizer.recipe import FEWEST_TOKENS, Recipe

HIDDEN, INNER = 32, 64
EXPERT = FeedForward(Fused(HIDDEN, {"gate": INNER, "up": INNER}, False), Fused(INNER, {"down": HIDDEN}, False), 1)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs_of(routed: Routed) -> LayerInputs:
    nothing = Inputs(torch.zeros(0, 0), torch.zeros(0))
    return LayerInputs((nothing, nothing), None, routed)


@given(tokens=st.integers(1, 600), chosen=st.floats(0, 1), seed=st.integers(0, 99))
def test_an_expert_sees_its_tokens_and_others_where_they_are_few(tokens: int, chosen: float, seed: int) -> None:
    chose = torch.rand(tokens, generator=torch.Generator().manual_seed(seed)) < chosen
    numbers = torch.arange(tokens).float().unsqueeze(1)
    routed = Routed(numbers, torch.where(chose, 1, 0).unsqueeze(1))
    own, found = int(chose.sum()), routed.of(1).flatten().long()
    assert len(found.unique()) == len(found) == min(max(own, FEWEST_TOKENS), tokens)
    assert chose[found[:own]].all()
    assert not chose[found[own:]].any()
    assert routed.has_few(1) == (own < FEWEST_TOKENS)
    assert routed.share(1) == pytest.approx(own / tokens)


def test_the_inputs_of_an_expert_are_those_of_its_tokens() -> None:
    routed = Routed(random(700, HIDDEN), torch.arange(700).remainder(2).unsqueeze(1))
    tensors = {f"at.{name}.weight": random(INNER, HIDDEN, seed=seed) for seed, name in enumerate(("gate", "up"))}
    tensors["at.down.weight"] = random(HIDDEN, INNER, seed=2)
    above, below = inputs_of(routed).of(EXPERT, tensors, "at.")
    x = routed.hidden[1::2]
    inner = torch.nn.functional.silu(x @ tensors["at.gate.weight"].T) * (x @ tensors["at.up.weight"].T)
    for found, seen in ((above, x), (below, inner)):
        torch.testing.assert_close(found.gram, seen.T @ seen / len(seen), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.sizes, seen.abs().mean(0), rtol=1e-4, atol=1e-5)


def test_its_own_tokens_make_an_expert_better_than_all_do() -> None:
    """Half of the tokens, with inputs of other sizes, never reach it."""
    hidden = random(2000, HIDDEN)
    hidden[::2, :16] *= 20
    hidden[1::2, 16:] *= 20
    own = Routed(hidden, torch.arange(2000).remainder(2).unsqueeze(1))
    everyones = Routed(hidden, torch.ones(2000, 1, dtype=torch.int64))
    tensors = {f"at.{name}.weight": random(INNER, HIDDEN, seed=1) for name in ("gate", "up")}
    tensors["at.down.weight"] = random(HIDDEN, INNER, seed=2)
    recipe, weight = Recipe("gptq", 4, 32), tensors["at.gate.weight"]
    meant, _ = inputs_of(own).of(EXPERT, tensors, "at.")
    errors = []
    for routed in (own, everyones):
        seen, _ = inputs_of(routed).of(EXPERT, tensors, "at.")
        order = gptq.column_order(seen)
        found = gptq.quantize(weight, gptq.inverse_factor(seen, order), order, recipe)
        errors.append(float(output_error(found.dequantize() - weight, meant)))
    assert errors[0] < 0.9 * errors[1]
