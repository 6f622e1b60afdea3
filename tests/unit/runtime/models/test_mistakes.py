"""Mistakes that engines made with dense families, each of which would show: it moves the scores of the small models by
more than the tests of exactness allow. Those of experts and of latent attention stand with them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import FAMILIES, random, save
from small_models import in_chunks, load_decoder, random_prompts

from octavo_runtime.layers.rope_scaling import LongRope, YarnRope
from octavo_runtime.models.loading import checkpoint
from octavo_runtime.models.spec import ModelSpec, UnsupportedModel

Mistake = Callable[[ModelSpec], ModelSpec]
EPSILONS = {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"}
ALLOWED = 1e-4
"""Of the largest score, in the tests of exactness."""


def with_(**changes: Any) -> Mistake:
    return lambda spec: replace(spec, **changes)


def yarn(**changes: Any) -> Mistake:
    def mistaken(spec: ModelSpec) -> ModelSpec:
        assert isinstance(spec.rope_scaling, YarnRope)
        return replace(spec, rope_scaling=replace(spec.rope_scaling, **changes))

    return mistaken


def turned_for_long_prompts(spec: ModelSpec) -> ModelSpec:
    assert isinstance(spec.rope_scaling, LongRope)
    return replace(spec, rope_scaling=replace(spec.rope_scaling, divisors=spec.rope_scaling.long_divisors))


def shorter_window(spec: ModelSpec) -> ModelSpec:
    assert spec.window is not None
    return replace(spec, window=spec.window - 1)


MISTAKES: dict[str, tuple[str, Mistake]] = {
    "no window": ("mistral, window", with_(windowed_layers=frozenset())),
    "a window of one token less": ("mistral, window", shorter_window),
    "no rotary embedding": ("mistral", with_(unrotated_layers=frozenset(range(3)))),
    "YaRN as a plain rope": ("llama, yarn", with_(rope_scaling=None)),
    "YaRN without its amplitude": ("llama, yarn", yarn(attention_factor=1.0)),
    "YaRN's ramp in whole dimensions": ("gpt-oss", yarn(truncate=True)),
    "Llama 3's rope as a plain one": ("llama 3 rope", with_(rope_scaling=None)),
    "one base for all layers": ("gemma 3", with_(windowed_rope_theta=None)),
    "halves turned instead of neighbours": ("glm", with_(interleaved_rope=False)),
    "all of a head is turned": ("stablelm", with_(rotary_dim=None)),
    "all layers are turned": ("smollm 3", with_(unrotated_layers=frozenset())),
    "short prompts turned as long ones": ("phi 3, longrope", turned_for_long_prompts),
    "no ALiBi": ("bloom", with_(alibi_slopes=None)),
    "scores by the size of a head": ("gemma 2", with_(attention_scale=None)),
    "no cap of attention": ("gemma 2, close caps", with_(attention_softcap=None)),
    "no cap of the scores": ("gemma 2, close caps", with_(logits_softcap=None)),
    "norms without their offset": ("gemma 2", with_(norm_offset=0.0)),
    "GELU by its tanh": ("falcon", with_(activation="gelu_tanh")),
    "branches as they are": ("granite", with_(residual_multiplier=1.0)),
    "scores as they are": ("granite", with_(logits_divisor=1.0)),
    "attention and MLP in turn": ("gpt neox", with_(is_parallel=False)),
}


@torch.inference_mode()
def difference(family: str, mistake: Mistake, folder: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """From transformers' scores, as a share of the largest, where the loader takes a model for another."""
    theirs, [prompt] = save(FAMILIES[family], folder, spread=0.2), random_prompts(60)
    expected = theirs(torch.tensor([prompt])).logits[0]
    served = checkpoint.as_served
    monkeypatch.setattr(checkpoint, "as_served", lambda spec, config: mistake(served(spec, config)))
    decoder = load_decoder(folder, torch.float32, max_model_len=256)
    return float((decoder.logits(in_chunks(decoder, prompt)) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_would_show(name, tmp_path, monkeypatch):
    family, mistake = MISTAKES[name]
    assert difference(family, mistake, tmp_path, monkeypatch) > 2 * ALLOWED


@pytest.mark.parametrize(
    ("family", "left_out"),
    [("gpt-oss", with_(has_sinks=False)), ("qwen 2", with_(qkv_bias=False)), ("qwen 3", with_(qk_norm=False))],
)
def test_what_a_checkpoint_holds_cannot_be_left_out(family, left_out, tmp_path, monkeypatch):
    with pytest.raises(UnsupportedModel, match="does not read"):
        difference(family, left_out, tmp_path, monkeypatch)


@pytest.mark.parametrize("family", [name for name in FAMILIES if not name.startswith("opt")])  # which has no such field
@torch.inference_mode()
def test_what_norms_add_to_a_variance_is_what_the_configuration_says(family, tmp_path):
    """Some thousand times as much as usual, or a wrong one would not show in states of such a size."""
    fields = FAMILIES[family].to_dict().keys() & EPSILONS
    theirs, [prompt] = random(FAMILIES[family], spread=0.2, **dict.fromkeys(fields, 0.3)), random_prompts(60)
    theirs.save_pretrained(tmp_path)
    expected = theirs(torch.tensor([prompt])).logits[0]
    decoder = load_decoder(tmp_path, torch.float32, max_model_len=256)
    found = decoder.logits(in_chunks(decoder, prompt))
    torch.testing.assert_close(found, expected, rtol=0, atol=ALLOWED * float(expected.abs().max()))
