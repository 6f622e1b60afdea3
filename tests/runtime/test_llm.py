"""Offline use, with the real model."""

import subprocess
import sys

import pytest

from octavo_runtime import LLM, SamplingParams
from octavo_runtime.sampling_params import InvalidParameter

GREEDY = SamplingParams(temperature=0.0, max_tokens=24)


@pytest.fixture(scope="module")
def llm():
    return LLM("builtin://smollm2", device="cpu", dtype="float32", kv_cache_memory="128Mi")


def test_chat_answers_one_conversation_and_several(llm):
    question = [{"role": "user", "content": "What is the capital of France?"}]
    (one,) = llm.chat(question, GREEDY)
    assert one.outputs[0].text == "The capital of France is Paris."
    assert one.outputs[0].finish_reason == "stop"
    assert len(one.prompt_token_ids) == 37
    several = llm.chat([question, question], GREEDY, progress=False)
    assert [result.outputs[0].text for result in several] == [one.outputs[0].text] * 2


def test_generate_keeps_the_order_and_takes_params_for_each(llm):
    results = llm.generate(
        ["Once upon a time", [1, 2, 3]],
        [SamplingParams(temperature=0.0, max_tokens=3), SamplingParams(seed=1, max_tokens=5, ignore_eos=True)],
        progress=False,
    )
    assert [result.prompt for result in results] == ["Once upon a time", None]
    assert [len(result.outputs[0].token_ids) for result in results] == [3, 5]
    assert results[0].outputs[0].finish_reason == "length"


def test_stop_strings_end_the_answer_and_are_not_part_of_it(llm):
    params = SamplingParams(temperature=0.0, max_tokens=24, stop=("France",))
    (result,) = llm.chat([{"role": "user", "content": "What is the capital of France?"}], params)
    assert result.outputs[0].text == "The capital of "
    assert result.outputs[0].finish_reason == "stop"


def test_a_seed_draws_the_same_tokens_in_any_batch(llm):
    params = SamplingParams(temperature=1.0, seed=7, max_tokens=12, ignore_eos=True)
    (alone,) = llm.generate("The weather", params)
    together = llm.generate(["The weather", "Other", "The weather", "And more"], params, progress=False)
    assert together[0].outputs[0].token_ids == alone.outputs[0].token_ids == together[2].outputs[0].token_ids
    (unseeded,) = llm.generate("The weather", SamplingParams(max_tokens=12, ignore_eos=True))
    assert unseeded.outputs[0].token_ids != alone.outputs[0].token_ids


def test_nothing_runs_when_one_prompt_is_refused(llm):
    with pytest.raises(InvalidParameter, match="prompt must have at least 1 token"):
        llm.generate([[1, 2], []], GREEDY)
    assert not llm._engine.has_work
    with pytest.raises(ValueError, match="params: must be one, or as many as the 1 prompts, got 2"):
        llm.generate("a", [GREEDY, GREEDY])


def test_a_bad_setting_is_named_before_anything_loads():
    with pytest.raises(ValueError, match="block_size: must be a power of two, got 24"):
        LLM("builtin://smollm2", block_size=24)


def test_many_prompts_show_a_progress_bar():
    code = (
        "from octavo_runtime import LLM, SamplingParams\n"
        "llm = LLM('builtin://smollm2', device='cpu', kv_cache_memory='64Mi')\n"
        "llm.generate(['a', 'b', 'c'], SamplingParams(max_tokens=2, ignore_eos=True))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "3/3" in result.stdout
    assert "tok/s" in result.stdout
