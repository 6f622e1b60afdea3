"""Offline use, with the real model."""

import itertools
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from octavo_runtime import LLM, CompletionOutput, RequestOutput, SamplingParams
from octavo_runtime.protocol.sampling_params import InvalidParameter, StructuredOutput
from octavo_runtime.worker.ranks import RankedExecutor

pytestmark = pytest.mark.slow

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
    several = llm.chat([question, question], GREEDY, use_tqdm=False)
    assert [result.outputs[0].text for result in several] == [one.outputs[0].text] * 2


def test_parts_of_text_are_joined(llm):
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?", "cache": True}]
    (one,) = llm.chat([{"role": "user", "content": "What is the capital of France?"}], GREEDY)
    (same,) = llm.chat([{"role": "user", "content": parts}], GREEDY)
    assert same.prompt_token_ids == one.prompt_token_ids


def test_generate_keeps_the_order_and_takes_params_for_each(llm):
    results = llm.generate(
        ["Once upon a time", [1, 2, 3]],
        [SamplingParams(temperature=0.0, max_tokens=3), SamplingParams(seed=1, max_tokens=5, ignore_eos=True)],
        use_tqdm=False,
    )
    assert [result.prompt for result in results] == ["Once upon a time", None]
    assert [len(result.outputs[0].token_ids) for result in results] == [3, 5]
    assert results[0].outputs[0].finish_reason == "length"


def test_answers_without_params_take_the_models_defaults():
    override = {"temperature": 0, "max_new_tokens": 3}
    llm = LLM("builtin://smollm2", device="cpu", kv_cache_memory="16Mi", override_generation_config=override)
    assert llm.default_params == SamplingParams(temperature=0, max_tokens=3)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    for results in (llm.generate(["a", "b"], use_tqdm=False), llm.chat(question, use_tqdm=False)):
        assert [len(result.outputs[0].token_ids) for result in results] == [3] * len(results)


def test_guessed_tokens_change_no_answer(llm):
    """Beside answers that are drawn by a form, and cut by stop strings."""
    guessing = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
    other = LLM(
        "builtin://smollm2", device="cpu", dtype="float32", kv_cache_memory="128Mi", speculative_config=guessing
    )
    prompts = ["one two three one two three one two", "a b c a b c a b", "The list: 1, 2, 3, 1, 2, 3, 1", "x y x y"]
    params = [
        SamplingParams(temperature=0.0, max_tokens=40),
        SamplingParams(temperature=0.0, max_tokens=40, structured_outputs=StructuredOutput(regex="([ab] ){9}c")),
        SamplingParams(temperature=0.5, seed=1, max_tokens=40, stop=("3",)),
        SamplingParams(temperature=0.5, seed=2, n=2, max_tokens=40, logprobs=1),
    ]
    expected, found = (one.generate(prompts, params, use_tqdm=False) for one in (llm, other))
    for one, two in zip(expected, found, strict=True):
        assert [answer.text for answer in two.outputs] == [answer.text for answer in one.outputs]
        assert [answer.token_ids for answer in two.outputs] == [answer.token_ids for answer in one.outputs]
        logprobs = [answer.logprobs for answer in two.outputs]
        assert [len(one or []) for one in logprobs] == [len(answer.logprobs or []) for answer in one.outputs]


def test_stop_strings_end_the_answer_and_are_not_part_of_it(llm):
    params = SamplingParams(temperature=0.0, max_tokens=24, stop=("France",))
    (result,) = llm.chat([{"role": "user", "content": "What is the capital of France?"}], params)
    assert result.outputs[0].text == "The capital of "
    assert result.outputs[0].finish_reason == "stop"


def test_a_seed_draws_the_same_tokens_in_any_batch(llm):
    params = SamplingParams(temperature=1.0, seed=7, max_tokens=12, ignore_eos=True)
    (alone,) = llm.generate("The weather", params)
    together = llm.generate(["The weather", "Other", "The weather", "And more"], params, use_tqdm=False)
    assert together[0].outputs[0].token_ids == alone.outputs[0].token_ids == together[2].outputs[0].token_ids
    (unseeded,) = llm.generate("The weather", SamplingParams(max_tokens=12, ignore_eos=True))
    assert unseeded.outputs[0].token_ids != alone.outputs[0].token_ids


def test_several_answers_stop_one_by_one(llm):
    params = SamplingParams(n=3, seed=3, max_tokens=30, stop=("e",), ignore_eos=True, logprobs=1)
    (result,) = llm.generate("Once upon a time", params)
    assert [answer.index for answer in result.outputs] == [0, 1, 2]
    assert len({answer.text for answer in result.outputs}) == 3
    for answer in result.outputs:
        assert "e" not in answer.text
        assert answer.finish_reason == ("length" if answer.stop_reason is None else "stop")
        assert len(answer.logprobs) == len(answer.token_ids)
        assert answer.cumulative_logprob == pytest.approx(sum(entry.logprobs[0] for entry in answer.logprobs))
    assert result.finished
    assert not llm._engine.has_work


def test_beams_come_best_first_with_their_scores(llm):
    (result,) = llm.generate("Once upon a time", SamplingParams(n=2, beam_width=3, max_tokens=6))
    first, second = result.outputs
    assert first.score >= second.score
    assert first.text != second.text


def test_a_repeated_prompt_comes_from_the_prefix_cache(llm):
    prompt = list(range(1000, 1050))
    results = [llm.generate([prompt], SamplingParams(max_tokens=1))[0] for _ in range(2)]
    assert [result.cached_tokens for result in results] == [0, 48]
    (scored,) = llm.generate([prompt], SamplingParams(max_tokens=1, prompt_logprobs=0))
    assert [entry.token_ids[0] for entry in scored.prompt_logprobs] == prompt[1:]


def test_an_answer_keeps_to_its_form_and_a_bad_form_is_named(llm):
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    schema["additionalProperties"] = False
    params = SamplingParams(max_tokens=60, structured_outputs=StructuredOutput(json=json.dumps(schema)))
    (result,) = llm.generate("JSON: ", params)
    assert set(json.loads(result.outputs[0].text)) == {"a"}
    with pytest.raises(InvalidParameter, match=r"structured_outputs.regex does not compile"):
        llm.generate("a", SamplingParams(structured_outputs=StructuredOutput(regex="(")))
    assert not llm._engine.has_work


def test_messages_need_a_role(llm):
    for wrong in ({"content": "hi"}, {"role": 3, "content": "hi"}):
        with pytest.raises(InvalidParameter, match="messages must each have a role and a content, got"):
            llm.chat([{"role": "user", "content": "a"}, wrong])
    assert not llm._engine.has_work


def test_nothing_runs_when_one_prompt_is_refused(llm):
    with pytest.raises(InvalidParameter, match="prompt must have at least 1 token"):
        llm.generate([[1, 2], []], GREEDY)
    assert not llm._engine.has_work
    with pytest.raises(ValueError, match="sampling_params: must be one, or as many as the 1 prompts, got 2"):
        llm.generate("a", [GREEDY, GREEDY])


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda llm: llm.generate({"prompt": "a"}, GREEDY), "prompt must be text or token ids, got {'prompt': 'a'}"),
        (lambda llm: llm.generate([{"prompt": "a"}], GREEDY), "prompt must be text or token ids, got {'prompt': 'a'}"),
        (lambda llm: llm.generate(b"a", GREEDY), "prompt must be text or token ids, got b'a'"),
        (lambda llm: llm.generate(["a", b"a"], GREEDY), "prompt must be text or token ids, got b'a'"),
        (lambda llm: llm.generate(None, GREEDY), "prompt must be text or token ids, got None"),
        (lambda llm: llm.generate("a\ud800", GREEDY), "prompt must be valid Unicode, has half a surrogate pair at"),
        (lambda llm: llm.generate("a", {"max_tokens": 3}), "sampling_params must be SamplingParams, got {'max_"),
        (lambda llm: llm.generate("a", ["b"]), "sampling_params must be SamplingParams, got 'b'"),
        (lambda llm: llm.generate("a", priority=[1, 2]), "priority must be as many as the 1 prompts, got 2"),
        (lambda llm: llm.generate("a", priority=[2**31]), "priority must be from"),
        (lambda llm: llm.generate("a", priority=["b"]), "priority must be a list of integers, got ['b']"),
        (lambda llm: llm.generate("a", priority=1), "priority must be a list of integers, got 1"),
        (lambda llm: llm.generate("a", use_tqdm="no"), "use_tqdm must be true or false, got 'no'"),
        (lambda llm: llm.chat({"role": "user", "content": "a"}), "messages must be a list of messages, or of such"),
        (lambda llm: llm.chat(3), "messages must be a list of messages, or of such lists, got 3"),
        (lambda llm: llm.chat([[]]), "messages must have at least 1 message in each conversation, got none"),
        (
            lambda llm: llm.chat([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]),
            "messages must have parts of type text in their content, got one of type 'image_url'",
        ),
        (
            lambda llm: llm.chat([{"role": "user", "content": [{"type": "text", "text": 5}]}]),
            "messages must have parts of type text in their content, got {'text': 5, 'type': 'text'}",
        ),
        (lambda llm: llm.chat([{"role": "user", "content": ["a"]}]), "in their content, got 'a'"),
        (lambda llm: llm.chat([{"role": "user", "content": 5}]), "messages must have a content of text, or of parts"),
        (lambda llm: llm.embed([b"a"]), "prompt must be text or token ids, got b'a'"),
        (lambda llm: llm.score("a", 5), "second must be text, got 5"),
        (lambda llm: llm.score("a", ["b", None]), "second must be text, got None"),
        (lambda llm: llm.score(["a"], "b"), "first must be text, got"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_prompt_text_or_params_is_named(llm, ask, words):
    with pytest.raises(InvalidParameter) as refused:
        ask(llm)
    assert words in str(refused.value)
    assert not llm._engine.has_work


def test_some_prompts_may_have_params_and_chat_too(llm):
    question = [{"role": "user", "content": "What is the capital of France?"}]
    three, five = (SamplingParams(temperature=0.0, max_tokens=most) for most in (3, 5))
    results = llm.chat(iter([question, question]), [three, five], use_tqdm=False)
    assert [len(result.outputs[0].token_ids) for result in results] == [3, 5]
    first, last = llm.generate(["a", [5] * (llm._engine.ready.max_model_len - 1)], [three, None], use_tqdm=False)
    assert [len(result.outputs[0].token_ids) for result in (first, last)] == [3, 1]


def test_vllms_keywords_are_taken(llm):
    question = [{"role": "user", "content": "What is the capital of France?"}]
    three = SamplingParams(temperature=0.0, max_tokens=3)
    results = [
        *llm.generate(prompts=["a", "b"], sampling_params=three, use_tqdm=False, priority=[1, 0]),
        *llm.chat(messages=question, sampling_params=three, use_tqdm=False),
    ]
    assert [len(result.outputs[0].token_ids) for result in results] == [3] * 3
    assert {type(result) for result in results} == {RequestOutput}
    assert {type(output) for result in results for output in result.outputs} == {CompletionOutput}
    assert len({result.request_id for result in results}) == 3


def test_the_lower_priority_goes_first(monkeypatch):
    settings = {"scheduling_policy": "priority", "max_num_seqs": 1, "kv_cache_memory": "16Mi"}
    llm, done = LLM("builtin://smollm2", device="cpu", **settings), []
    step = llm._engine.step

    def watched():
        outputs = step()
        done.extend(output.request_id for output in outputs if output.finish_reason)
        return outputs

    monkeypatch.setattr(llm._engine, "step", watched)
    llm.generate(["a", "b", "c"], SamplingParams(max_tokens=2, ignore_eos=True), use_tqdm=False, priority=[2, 1, 0])
    assert done == ["offline-2", "offline-1", "offline-0"]


def test_threads_take_turns(llm):
    prompts = [f"The number {number} is" for number in range(6)]
    params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    alone = [llm.generate(prompt, params)[0].outputs[0].text for prompt in prompts]
    with ThreadPoolExecutor(len(prompts)) as threads:
        results = threads.map(lambda prompt: (llm.generate(prompt, params), llm.embed(prompt)), prompts)
        assert [answers[0].outputs[0].text for answers, _ in results] == alone


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
    silent = code.replace("ignore_eos=True)", "ignore_eos=True), use_tqdm=False")
    result = subprocess.run([sys.executable, "-c", silent], capture_output=True, text=True, check=True)
    assert result.stdout == ""


def test_ctrl_c_lets_stages_finish_their_step(monkeypatch):
    """What one of them has begun and the other has not would go into the answers that follow."""
    llm = LLM("builtin://smollm2", device="cpu", dtype="float32", kv_cache_memory="16Mi", pipeline_parallel_size=2)
    steps, launch = itertools.count(), RankedExecutor.launch

    def answer(prompt, tokens):
        params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        (result,) = llm.generate([prompt], params, use_tqdm=False)
        return result.outputs[0].token_ids

    def interrupted(executor, plan):
        launched = launch(executor, plan)
        if next(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        return launched

    expected = answer([5], 12)
    with monkeypatch.context() as patch:
        patch.setattr(RankedExecutor, "launch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            answer([7, 8, 9], 40)
    assert answer([5], 12) == expected
