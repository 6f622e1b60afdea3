"""A model's generation_config.json as the defaults of requests, by vLLM's rules."""

import json

import pytest

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.llm import LLM
from octavo_runtime.models.loading.files import ModelFiles
from octavo_runtime.protocol.sampling_params import SamplingParams
from octavo_runtime.server.generation.chat_request import ChatCompletionRequest, CompletionRequest
from octavo_runtime.text.sampling_defaults import describe, load_sampling_defaults

FILE = {
    "do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": None, "repetition_penalty": 1.1,
    "max_new_tokens": 200, "eos_token_id": 2, "transformers_version": "4.40.0",
}  # fmt: skip
DEFAULTS = {"temperature": 0.6, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1, "max_tokens": 200}


def load(folder, content, **fields):
    if content is not None:
        (folder / "generation_config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return load_sampling_defaults(EngineConfig(model="m", **fields), ModelFiles("m", folder, None))


def test_the_models_own_file_gives_defaults(tmp_path):
    assert load(tmp_path, FILE) == DEFAULTS
    assert describe(load(tmp_path, {"temperature": 0.5, "top_k": 3})) == "temperature 0.5, top_k 3"


def test_a_model_without_the_file_has_none(tmp_path):
    assert load(tmp_path, None) == {}


@pytest.mark.parametrize("choice", ["vllm", "none"])
def test_the_apis_own_defaults_can_be_chosen(tmp_path, choice):
    assert load(tmp_path, FILE, generation_config=choice) == {}


def test_another_folder_can_be_chosen(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "generation_config.json").write_text('{"temperature": 0.1}')
    assert load(tmp_path, FILE, generation_config=str(other)) == {"temperature": 0.1}
    with pytest.raises(ValueError, match=r"generation_config: must be auto, vllm, none or a folder .*, got '/nowhere'"):
        load(tmp_path, FILE, generation_config="/nowhere")


@pytest.mark.parametrize("given", ['{"temperature": 0, "max_new_tokens": 5}', {"temperature": 0, "max_new_tokens": 5}])
def test_an_override_goes_before_the_file(tmp_path, given):
    expected = {**DEFAULTS, "temperature": 0, "max_tokens": 5}
    assert load(tmp_path, FILE, override_generation_config=given) == expected
    own = load(tmp_path, FILE, override_generation_config=given, generation_config="vllm")
    assert own == {"temperature": 0, "max_tokens": 5}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"temperature": -1}, r"generation_config\.json: temperature must be .*, got -1"),
        ({"top_k": "many"}, r"generation_config\.json: top_k must be .*, got 'many'"),
        ("{", r"generation_config\.json: is not JSON"),
    ],
)
def test_a_file_out_of_bounds_is_named(tmp_path, content, words):
    with pytest.raises(ValueError, match=words) as error:
        load(tmp_path, content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "override_generation_config: must be a JSON object"),
        ("[1]", "override_generation_config: must be a JSON object"),
        ('{"do_sample": true}', "override_generation_config: may set temperature, .*, got 'do_sample'"),
    ],
)
def test_an_override_that_is_none_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        LLM("builtin://smollm2", override_generation_config=given)


def test_an_override_out_of_bounds_is_named(tmp_path):
    with pytest.raises(ValueError, match="override_generation_config: top_p must be above 0, got 0"):
        load(tmp_path, None, override_generation_config='{"top_p": 0}')


def chat(**fields):
    return ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "a"}], **fields)


def test_requests_take_what_they_leave_out():
    assert chat().sampling_params(None, DEFAULTS, None) == SamplingParams(**DEFAULTS)
    assert chat().sampling_params(None, {}, None) == SamplingParams()
    asked = chat(temperature=1.0, top_k=0, max_tokens=300).sampling_params(None, DEFAULTS, None)
    assert asked == SamplingParams(top_p=0.9, repetition_penalty=1.1, max_tokens=300)


def test_the_lesser_of_both_limits_counts_for_completions():
    request = CompletionRequest(model="m", prompt="a")
    assert request.sampling_params(16, DEFAULTS, None).max_tokens == 16
    assert request.sampling_params(16, {"max_tokens": 7}, None).max_tokens == 7
    assert request.sampling_params(16, {}, None).max_tokens == 16


def test_beams_are_compared_without_them():
    params = chat(use_beam_search=True, n=2).sampling_params(None, DEFAULTS, None)
    assert params == SamplingParams(n=2, beam_width=2, max_tokens=200)
