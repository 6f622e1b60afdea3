"""AWQ's factors change what a layer's projections are, and nothing of what the layer computes."""

from pathlib import Path

import family_models
import pytest
import torch
from expert_models import EXPERT_FAMILIES

from octavo_runtime.quantizer import folding
from octavo_runtime.quantizer.folding import fold_scales
from octavo_runtime.quantizer.recipe import CannotQuantize, Recipe
from octavo_runtime.quantizer.source import open_source
from octavo_runtime.quantizer.streams import Stream, advance, build_layer, inputs_of_layer

CPU = torch.device("cpu")
CHANGES = {
    "llama": 3, "llama, biases": 3, "mistral, window": 3, "qwen 2": 3, "qwen 3": 3, "gemma 2": 3, "gemma 3": 3,
    "phi 3": 3, "olmo 2": 2, "glm": 3, "glm 4": 3, "ernie 4.5": 3, "command r": 3, "command r, biases": 3,
    "starcoder 2": 3, "stablelm": 3, "stablelm, side by side": 3, "granite": 3, "gpt neox": 3, "gpt neox, in turn": 3,
    "opt": 3, "bloom": 3, "falcon": 3, "falcon, new": 3, "falcon, new, one norm": 3, "nemotron": 3,
    "mixtral": 17, "qwen 2 moe": 28, "qwen 3 moe": 23, "olmoe": 23, "phi moe": 22, "ernie 4.5 moe": 26, "glm 4.5": 35,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_layer_computes_what_it_did(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family_models.save((family_models.FAMILIES | EXPERT_FAMILIES)[name], tmp_path)
    source = open_source(str(tmp_path))
    index = max(source.spec.expert_layers, default=source.spec.num_layers - 1)
    tensors = {each: tensor.float() for each, tensor in source.layer(index).items()}
    torch.manual_seed(2)
    stream = Stream(torch.randn(9, source.spec.hidden_size), torch.randn(9, source.spec.hidden_size))
    streams = [stream.copy(), stream.copy()]
    decoder = build_layer(source.spec, index, tensors, CPU)
    inputs = inputs_of_layer(decoder, streams)

    def anything(readers: object, sizes: torch.Tensor, size: int, sharing: torch.Tensor | None) -> torch.Tensor:
        factors = torch.rand(len(sizes)) + 0.5
        return factors if sharing is None else factors[: int(sharing.max()) + 1][sharing]

    monkeypatch.setattr(folding, "best_scales", anything)
    folded = dict(tensors)
    fold_scales(folded, inputs, source.spec, index, Recipe("awq", 4))
    changed = {each for each in tensors if not tensors[each].equal(folded[each])}
    assert len(changed) >= CHANGES[name]
    advance(decoder, streams[:1])
    advance(build_layer(source.spec, index, folded, CPU), streams[1:])
    one, two = streams[0].added, streams[1].added
    assert one is not None
    assert two is not None
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mixtral", "model: must be dense for squeezellm, which has no layout of mixtures, got one of"),
        ("youtu", "model: must be one with keys and values of its own, got multi-head latent attention"),
        ("opt 350m", "model: must be one whose norms stand in front of attention and MLP, got norms behind them"),
        ("gpt 2", r"model: must be one whose projections are stored as \[out, in\]"),
    ],
)
def test_what_cannot_be_quantised_is_refused(name: str, words: str, tmp_path: Path) -> None:
    family_models.save(family_models.FAMILIES[name], tmp_path)
    with pytest.raises(CannotQuantize, match=words):
        open_source(str(tmp_path), takes_experts=False)


def test_experts_that_are_stored_in_one_tensor_are_refused(tmp_path: Path) -> None:
    family_models.save(EXPERT_FAMILIES["granite moe"], tmp_path)
    with pytest.raises(CannotQuantize, match="model: must be dense, or one whose experts are stored one by one"):
        open_source(str(tmp_path))
