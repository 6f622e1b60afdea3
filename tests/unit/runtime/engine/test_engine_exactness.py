"""What the engine does to save time or memory changes no token: against transformers in float32, on random models of
odd shapes."""

from functools import partial

import pytest
import torch
from small_models import EOS, SHAPES, check_greedy, make_engine, random_prompts, run, save, tokens_of

from octavo_runtime.protocol.sampling_params import SamplingParams

NEW_TOKENS = 20
GREEDY = SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True)
LENGTHS = (1, 5, 16, 17, 60, 150)
GUESSING = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3, "prompt_lookup_min": 1}
SETTINGS = {
    "plain": {"enable_prefix_caching": False},
    "prefix cache": {},
    "chunks of 16": {"max_num_batched_tokens": 16, "max_num_seqs": 8},
    "chunks of 37": {"max_num_batched_tokens": 37, "max_num_seqs": 8},
    "preempted, computed anew": {"blocks": 12, "preemption_mode": "recompute", "max_model_len": 190},
    "preempted, from host memory": {"blocks": 12, "preemption_mode": "swap", "max_model_len": 190, "swap_space": "1Mi"},
    "blocks of 32": {"block_size": 32},
    "guessed": {"speculative_config": GUESSING},
    "guessed in small steps": {"speculative_config": GUESSING, "max_num_batched_tokens": 16, "max_num_seqs": 8},
}


@pytest.fixture(scope="module", params=SHAPES)
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, save(SHAPES[request.param], folder)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def make(request):
    """Makes engines on one device."""
    return partial(make_engine, device=request.param)


def settings_for(model: torch.nn.Module, settings: dict) -> dict:
    """A number of blocks becomes the memory that they take for this model."""
    config = model.config
    block_bytes = config.num_hidden_layers * 2 * 16 * config.num_key_value_heads * config.head_dim * 4
    rest = {name: value for name, value in settings.items() if name != "blocks"}
    if "blocks" in settings:
        rest["kv_cache_memory"] = f"{settings['blocks'] * block_bytes // 1024 + 1}Ki"
    if "swap_space" in settings:
        rest["swap_space"] = f"{max(16 * block_bytes // 1024 + 1, 1024)}Ki"
    return rest


@pytest.mark.parametrize("name", SETTINGS)
def test_greedy_tokens_equal_transformers(make, model, name):
    folder, reference = model
    engine = make(folder, **settings_for(reference, SETTINGS[name]))
    prompts = random_prompts(*LENGTHS)
    for prompt, outputs in zip(prompts, run(engine, prompts, GREEDY), strict=True):
        answer = tokens_of(outputs)
        assert len(answer) == NEW_TOKENS
        check_greedy(reference, prompt, answer)
    load = engine.load
    assert (load.guessed > 0) == ("guessed" in name)
    assert (load.swaps > 0) == ("host memory" in name)
    assert (load.recomputes > 0) == ("anew" in name)


def test_the_prefix_cache_changes_no_token(make, model):
    """Cold, warm, evicted in between, and with many identical prompts at once."""
    folder, reference = model
    [head] = random_prompts(70)
    prompts = [head + tail for tail in random_prompts(3, 20, 40, seed=2)] + [head] * 5
    plain = run(make(folder, enable_prefix_caching=False), prompts, GREEDY)
    engine = make(folder, **settings_for(reference, {"blocks": 24, "max_model_len": 200}))
    cold = run(engine, prompts, GREEDY)
    assert engine.load.prefix_hits > 0
    warm = run(engine, prompts, GREEDY)
    run(engine, random_prompts(150, 160, seed=3), GREEDY)
    evicted = run(engine, prompts, GREEDY)
    for answers in (cold, warm, evicted):
        assert [tokens_of(one) for one in answers] == [tokens_of(one) for one in plain]
    cached = [max(output.cached_tokens for output in one) for one in warm]
    assert all(tokens % 16 == 0 for tokens in cached)
    assert max(cached) >= 64


def test_guesses_change_no_token_that_is_drawn(make, model):
    """Beside rows that are drawn otherwise; log-probabilities come with guessed tokens too."""
    folder, _ = model
    prompts = [part * 4 for part in random_prompts(3, 5, 8, 13)]
    plain, guessing = make(folder), make(folder, speculative_config=GUESSING)
    for params in (
        SamplingParams(temperature=0.3, seed=3, logprobs=2, max_tokens=30, ignore_eos=True),
        SamplingParams(temperature=1.0, top_k=5, top_p=0.9, seed=4, n=2, max_tokens=30, ignore_eos=True),
        SamplingParams(temperature=0.0, presence_penalty=0.5, max_tokens=30, ignore_eos=True),
    ):
        expected, found = run(plain, prompts, params), run(guessing, prompts, params)
        for one, other in zip(expected, found, strict=True):
            for index in range(params.n):
                assert tokens_of(other, index) == tokens_of(one, index)
            assert [output.logprobs is None for output in other] == [output.logprobs is None for output in one]
    assert 0 < guessing.load.guessed_right < guessing.load.guessed


def test_n_answers_of_one_prompt_equal_those_of_single_requests(make, model):
    """Forks share the prompt's blocks; answer i of a seeded request is what a request for i + 1 answers gives too."""
    folder, reference = model
    prompts = random_prompts(5, 33)
    params = SamplingParams(n=4, seed=7, max_tokens=12, ignore_eos=True)
    plain = run(make(folder), prompts, params)
    tight = run(make(folder, **settings_for(reference, {"blocks": 5, "max_model_len": 60})), prompts, params)
    few_rows = run(make(folder, max_num_seqs=2), prompts, params)
    two = run(make(folder), prompts, SamplingParams(n=2, seed=7, max_tokens=12, ignore_eos=True))
    for whole, *others in zip(plain, tight, few_rows, strict=True):
        answers = [tokens_of(whole, index) for index in range(4)]
        assert all(len(answer) == 12 for answer in answers)
        assert len({tuple(answer) for answer in answers}) == 4
        for other in others:
            assert [tokens_of(other, index) for index in range(4)] == answers
    assert [tokens_of(one, 1) for one in two] == [tokens_of(one, 1) for one in plain]
    greedy = run(make(folder), prompts, SamplingParams(n=3, temperature=0.0, max_tokens=12, ignore_eos=True))
    for prompt, outputs in zip(prompts, greedy, strict=True):
        for index in range(3):
            check_greedy(reference, prompt, tokens_of(outputs, index))


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0])
def test_beams_equal_transformers(make, model, early_stopping, length_penalty):
    """Scores and tokens; the end token is made likely, so that beams end at different lengths."""
    folder, reference = model
    engine = make(folder, **settings_for(reference, {"blocks": 16, "max_model_len": 100}))
    for prompt in random_prompts(3, 40, seed=5):
        with torch.inference_mode():
            likely = reference(torch.tensor([prompt])).logits[0, -1].topk(3).indices.tolist()
        params = SamplingParams(
            n=3,
            beam_width=4,
            max_tokens=10,
            stop_token_ids=tuple(likely[1:2]),
            length_penalty=length_penalty,
            early_stopping=early_stopping,
        )
        [outputs] = run(engine, [prompt], params)
        expected = reference.generate(
            torch.tensor([prompt]),
            num_beams=4,
            num_return_sequences=3,
            max_new_tokens=10,
            do_sample=False,
            early_stopping=early_stopping,
            length_penalty=length_penalty,
            eos_token_id=[EOS, likely[1]],
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        assert [output.index for output in outputs] == [0, 1, 2]
        for output, sequence, score in zip(outputs, expected.sequences, expected.sequences_scores, strict=True):
            assert output.score == pytest.approx(score.item(), abs=1e-4)
            answer = sequence[len(prompt) :].tolist()[: len(output.token_ids)]
            assert output.token_ids == answer
            assert output.finish_reason == ("stop" if answer[-1] in (EOS, likely[1]) else "length")


@pytest.mark.parametrize("settings", [{}, {"max_num_batched_tokens": 16, "max_num_seqs": 8}], ids=["whole", "chunks"])
def test_prompt_logprobs_equal_transformers(make, model, settings):
    folder, reference = model
    engine = make(folder, **settings)
    prompts = random_prompts(1, 16, 50)
    params = SamplingParams(temperature=0.0, max_tokens=3, prompt_logprobs=4, logprobs=2, ignore_eos=True)
    for _ in range(2):  # the second time the prompts are in the prefix cache, and still scored
        for prompt, outputs in zip(prompts, run(engine, prompts, params), strict=True):
            with torch.inference_mode():
                whole = torch.tensor([prompt + tokens_of(outputs)])
                expected = reference(whole).logits[0].log_softmax(-1)
            entries = outputs[0].prompt_logprobs
            assert len(entries) == len(prompt) - 1
            for position, entry in enumerate(entries, start=1):
                row = expected[position - 1]
                assert entry.token_ids[0] == prompt[position]
                assert entry.logprobs[0] == pytest.approx(row[prompt[position]].item(), abs=1e-4)
                assert entry.logprobs[1:] == pytest.approx(row.topk(4).values.tolist(), abs=1e-4)
            assert all(output.prompt_logprobs is None for output in outputs[1:])
            for step, output in enumerate(outputs):
                [entry] = output.logprobs
                row = expected[len(prompt) - 1 + step]
                assert entry.logprobs[:2] == pytest.approx([row.max().item()] * 2, abs=1e-4)
                assert entry.ranks == [1, 1, 2]
