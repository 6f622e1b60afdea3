"""The text of a model that sees pictures is served from the whole model's checkpoint."""

import json

import pytest
import torch
from family_models import FAMILIES, SLIDING, SMALL, save
from safetensors.torch import load_file, save_file
from small_models import make_engine, random_prompts, run, tokens_of
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from octavo_runtime.models.loading.config_json import spec_from_config
from octavo_runtime.models.spec import UnsupportedModel
from octavo_runtime.protocol.sampling_params import SamplingParams

TEXT = {**SMALL, "head_dim": 32, "sliding_window": 16, "layer_types": [*SLIDING, "full_attention", *SLIDING]}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def assert_answers_as(model, folder) -> None:
    [prompt] = random_prompts(50)
    [outputs] = run(make_engine(folder), [prompt], SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True))
    answer = tokens_of(outputs)
    with torch.inference_mode():
        scores = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    assert scores.argmax(-1).tolist() == answer


def rename(folder, to: dict[str, str], **more: torch.Tensor) -> None:
    """Gives the tensors of a folder other prefixes, and adds more of them."""
    path = folder / "model.safetensors"
    tensors = {
        next((to[old] + name.removeprefix(old) for old in to if name.startswith(old)), name): tensor
        for name, tensor in load_file(path).items()
    }
    save_file({**tensors, **more}, path)


@pytest.mark.parametrize("newer", [False, True])
def test_gemma_3_with_pictures_answers_texts_as_transformers(newer, tmp_path):
    torch.manual_seed(0)
    tokens = {"image_token_index": 296, "boi_token_index": 297, "eoi_token_index": 298}
    config = Gemma3Config(text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, **tokens)
    model = Gemma3ForConditionalGeneration(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    assert {name.partition(".")[0] for name in names} == {"language_model", "vision_tower", "multi_modal_projector"}
    if newer:
        parts = {"vision_tower.": "model.vision_tower.", "multi_modal_projector.": "model.multi_modal_projector."}
        rename(tmp_path, {"language_model.model.": "model.language_model.", **parts})
    assert_answers_as(model, tmp_path)


def test_mistral_3_with_pictures_answers_texts_as_its_text_model(tmp_path):
    model = save(FAMILIES["mistral, window"], tmp_path)
    text = json.loads((tmp_path / "config.json").read_text())
    wrapper = {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": text}
    (tmp_path / "config.json").write_text(json.dumps(wrapper))
    pictures = {"vision_tower.patch_conv.weight": torch.ones(2), "multi_modal_projector.norm.weight": torch.ones(2)}
    rename(tmp_path, {"model.": "language_model.model.", "lm_head.": "language_model.lm_head."}, **pictures)
    assert_answers_as(model, tmp_path)


def test_tensors_of_pictures_are_left_over_where_there_is_no_text_beside_them(tmp_path):
    save(FAMILIES["llama"], tmp_path)
    rename(tmp_path, {}, **{"vision_tower.patch_conv.weight": torch.ones(2)})
    with pytest.raises(UnsupportedModel, match=r"does not read: vision_tower\.patch_conv\.weight"):
        make_engine(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "text_config.model_type must be gemma3_text, got None"),
        ({"text_config": {"model_type": "llama"}}, "text_config.model_type must be gemma3_text, got llama"),
        ({"text_config": {}, "quantization_config": {"quant_method": "hqq"}}, "quant_method must be one of"),
    ],
)
def test_another_text_or_quantised_weights_are_refused(change, words):
    with pytest.raises(UnsupportedModel, match=words):
        spec_from_config({"architectures": ["Gemma3ForConditionalGeneration"], **change})
