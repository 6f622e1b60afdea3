"""LongRoPE within the original context and beyond it, against transformers, which chooses by the length of a prompt."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from expert_models import EXPERT_FAMILIES
from family_models import FAMILIES, random, save
from gguf_families import write_converted
from latent_models import LATENT_FAMILIES
from small_models import random_prompts, run, tokens_of
from transformers import PretrainedConfig

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.engine import Engine
from octavo_runtime.layers.rope_scaling import LongRope
from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.models.loading.gguf_file import GGUFFile
from octavo_runtime.models.loading.gguf_rope import LONG_ROPE
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.protocol.sampling_params import SamplingParams

ORIGINAL, LONGEST = 256, 1024
LONG = {"short_factor": [1.0 + 0.3 * pair for pair in range(6)], "long_factor": [2.0 + pair for pair in range(6)]}
MINICPM = type(LATENT_FAMILIES["minicpm 3"])(
    **{
        **LATENT_FAMILIES["minicpm 3"].to_dict(),
        "max_position_embeddings": LONGEST,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "original_max_position_embeddings": ORIGINAL,
            "factor": LONGEST / ORIGINAL,
            **LONG,
        },
    }
)
CONFIGS = {"phi 3": FAMILIES["phi 3, longrope"], "phi moe": EXPERT_FAMILIES["phi moe, longrope"], "minicpm 3": MINICPM}
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)


def as_for_long_prompts(config: PretrainedConfig) -> torch.nn.Module:
    """The model that turns prompts of all lengths as it turns long ones. transformers' PhiMoE has the factors of long
    prompts, but the divisors of short ones for all; the published code has the long ones (microsoft/Phi-3.5-MoE)."""
    rope = dict(config.rope_parameters)
    rope["short_factor"] = rope["long_factor"]
    if "long_mscale" in rope:
        rope["short_mscale"] = rope["long_mscale"]
    return random(config, rope_parameters=rope)


def engine(path: Path, **asked: Any) -> Engine:
    settings: dict[str, Any] = {
        "device": "cpu",
        "dtype": "float32",
        "kv_cache_memory": "16Mi",
        "max_num_batched_tokens": 128,
    }
    return Engine(EngineConfig(model=str(path), **settings | asked))


def assert_greedy(model: torch.nn.Module, prompts: list[list[int]], answers: list[list[int]]) -> None:
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.inference_mode():
            scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        assert scores.argmax(-1).tolist() == answer


@pytest.mark.parametrize("name", CONFIGS)
def test_requests_that_may_be_long_are_turned_alike_from_their_first_token(name: str, tmp_path: Path) -> None:
    theirs = save(CONFIGS[name], tmp_path)
    prompts = random_prompts(3, 40, 250, 300, 400)
    answers = [tokens_of(outputs) for outputs in run(engine(tmp_path), prompts, GREEDY)]
    assert_greedy(as_for_long_prompts(CONFIGS[name]), prompts, answers)
    if name != "phi moe":
        assert_greedy(theirs, prompts[3:], answers[3:])


@pytest.mark.parametrize("name", CONFIGS)
def test_requests_within_the_original_context_are_turned_as_transformers_turns_them(name: str, tmp_path: Path) -> None:
    theirs = save(CONFIGS[name], tmp_path)
    prompts = random_prompts(3, 40, ORIGINAL - 12)
    answers = [tokens_of(outputs) for outputs in run(engine(tmp_path, max_model_len=ORIGINAL), prompts, GREEDY)]
    assert_greedy(theirs, prompts, answers)


@pytest.mark.parametrize(("asked", "lengths"), [(ORIGINAL, (3, 200)), (LONGEST, (300, 400))])
def test_gguf_files_hold_both(asked: int, lengths: tuple[int, ...], tmp_path: Path) -> None:
    model = random(CONFIGS["phi 3"])
    write_converted(tmp_path / "model.gguf", model)
    prompts = random_prompts(*lengths)
    served = engine(tmp_path / "model.gguf", max_model_len=asked)
    assert_greedy(model, prompts, [tokens_of(outputs) for outputs in run(served, prompts, GREEDY)])


@pytest.mark.parametrize("left", LONG_ROPE)
def test_gguf_files_with_one_of_both_are_refused(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [missing] = {*LONG_ROPE} - {left}
    add = gguf.GGUFWriter.add_tensor

    def add_others(writer: gguf.GGUFWriter, name: str, *tensor: Any, **options: Any) -> None:
        if name != missing:
            add(writer, name, *tensor, **options)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", add_others)
    write_converted(tmp_path / "model.gguf", random(CONFIGS["phi 3"]))
    with pytest.raises(UnsupportedModel, match=f"{missing} must be given beside {left}, got none"):
        GGUFFile(tmp_path / "model.gguf")


def test_how_much_memory_there_is_changes_no_answer(tmp_path: Path) -> None:
    """What is asked for decides, not how many tokens the cache holds."""
    save(CONFIGS["phi 3"], tmp_path)
    small = engine(tmp_path, kv_cache_memory="150Ki")
    assert small.ready.max_model_len < ORIGINAL
    [prompt] = random_prompts(40)
    answers = [tokens_of(run(each, [prompt], GREEDY)[0]) for each in (small, engine(tmp_path))]
    assert answers[0] == answers[1]


def test_phi_moe_names_its_factors() -> None:
    config = {**CONFIGS["phi moe"].to_dict(), "architectures": ["PhimoeForCausalLM"]}
    spec = spec_from_config(config)
    assert isinstance(spec.rope_scaling, LongRope)
    assert (spec.rope_scaling.attention_factor, spec.rope_scaling.long_attention_factor) == (1.1, 1.3)
    broken = {**config, "rope_parameters": {**config["rope_parameters"], "long_mscale": "much"}}
    with pytest.raises(UnsupportedModel, match=r"rope_parameters\.long_mscale must be a number above 0, got much"):
        spec_from_config(broken)
