"""How answers are chosen, through the official SDK and the real engine."""

import httpx
import openai
import pytest
from patience import PATIENCE, eventually

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "Name the capital of France."}]
STORY = "Once upon a time"
PARIS = 7042  # " Paris"


@pytest.fixture
def client(real):
    with openai.OpenAI(
        base_url=f"{real.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        yield client


def complete(client, prompt=STORY, *, model="smollm2", max_tokens=8, **asked):
    return client.completions.create(model=model, prompt=prompt, max_tokens=max_tokens, **asked)


def texts(answer) -> list[str]:
    return [choice.text for choice in answer.choices]


def test_n_answers_differ_and_are_drawn_alike_whole_and_streamed(client):
    asked = {"n": 3, "seed": 5, "temperature": 1.0, "extra_body": {"ignore_eos": True}}
    whole = complete(client, [STORY, "The sea"], **asked)
    assert [choice.index for choice in whole.choices] == list(range(6))
    assert len(set(texts(whole))) == 6
    assert whole.usage.completion_tokens == 6 * 8
    streamed = [""] * 6
    for chunk in complete(client, [STORY, "The sea"], stream=True, **asked):
        [choice] = chunk.choices
        streamed[choice.index] += choice.text
    assert streamed == texts(whole)


def test_n_chat_answers_stream_side_by_side(client):
    asked = {"model": "smollm2", "messages": QUESTION, "n": 2, "seed": 1, "max_tokens": 6}
    whole = client.chat.completions.create(**asked)
    roles, streamed, ends = [0, 0], ["", ""], [None, None]
    for chunk in client.chat.completions.create(**asked, stream=True):
        [choice] = chunk.choices
        roles[choice.index] += choice.delta.role == "assistant"
        streamed[choice.index] += choice.delta.content or ""
        ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert roles == [1, 1]
    assert streamed == [choice.message.content for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]


def test_best_of_keeps_the_likeliest(client):
    asked = {"seed": 3, "temperature": 1.0, "logprobs": 0, "extra_body": {"ignore_eos": True}}
    every = complete(client, n=4, **asked)
    best = complete(client, n=2, best_of=4, **asked)
    means = {choice.text: sum(choice.logprobs.token_logprobs) / 8 for choice in every.choices}
    assert texts(best) == sorted(means, key=means.get, reverse=True)[:2]
    assert [choice.index for choice in best.choices] == [0, 1]
    assert best.usage.completion_tokens == 4 * 8


def test_beam_search_finds_a_likelier_answer_than_greedy(client):
    def score(text):
        scored = complete(client, STORY + text, max_tokens=0, echo=True, logprobs=0).choices[0].logprobs
        return sum(scored.token_logprobs[4:])

    greedy = complete(client, temperature=0)
    beams = complete(client, n=2, best_of=4, extra_body={"use_beam_search": True})
    assert len(set(texts(beams))) == 2
    assert score(texts(beams)[0]) >= score(texts(greedy)[0]) - 1e-3
    streamed = ["", ""]
    for chunk in complete(client, n=2, best_of=4, stream=True, extra_body={"use_beam_search": True}):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == texts(beams)


def test_a_seed_makes_an_answer_repeatable(client):
    asked = {"temperature": 1.0, "max_tokens": 12}
    assert texts(complete(client, seed=7, **asked)) == texts(complete(client, seed=7, **asked))
    assert texts(complete(client, seed=7, **asked)) != texts(complete(client, seed=8, **asked))


def test_logit_bias_forces_and_forbids_a_token(client):
    forced = complete(client, "2 + 2 =", max_tokens=3, logit_bias={PARIS: 100}, temperature=0)
    assert texts(forced) == [" Paris" * 3]
    free = complete(client, "The capital of France is", max_tokens=1, temperature=0)
    assert texts(free) == [" Paris"]
    forbidden = complete(client, "The capital of France is", max_tokens=1, temperature=0, logit_bias={PARIS: -100})
    assert texts(forbidden) != [" Paris"]


def test_allowed_tokens_and_bad_words(client):
    only = complete(client, max_tokens=4, extra_body={"allowed_token_ids": [PARIS]})
    assert texts(only) == [" Paris" * 4]
    without = complete(
        client, "The capital of France is", max_tokens=12, temperature=0, extra_body={"bad_words": ["Paris"]}
    )
    assert "Paris" not in texts(without)[0]


def test_penalties_bring_other_tokens(client):
    def distinct(**asked):
        body = {"return_token_ids": True, "ignore_eos": True, **asked}
        return len(set(complete(client, temperature=0, max_tokens=60, extra_body=body).choices[0].token_ids))

    free = distinct()
    for penalties in (
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"repetition_penalty": 2.0},
    ):
        assert distinct(**penalties) > free


def test_a_stop_string_over_several_tokens_can_stay_in_the_answer(client):
    text = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0).choices[0].message.content
    assert text == "The capital of France is Paris."
    stop = "tal of Fra"  # from the middle of one token to that of another
    for include, expected in ((False, "The capi"), (True, "The capital of Fra")):
        asked = {
            "model": "smollm2",
            "messages": QUESTION,
            "temperature": 0,
            "stop": [stop],
            "extra_body": {"include_stop_str_in_output": include},
        }
        whole = client.chat.completions.create(**asked).choices[0]
        assert (whole.message.content, whole.finish_reason, whole.stop_reason) == (expected, "stop", stop)
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
        assert "".join(choice.delta.content or "" for choice in chunks) == expected
        assert (chunks[-1].finish_reason, chunks[-1].stop_reason) == ("stop", stop)


def test_a_stop_token_is_the_stop_reason_and_shows_no_text(client):
    stopped = complete(client, "The capital of France is", temperature=0, extra_body={"stop_token_ids": [PARIS]})
    [choice] = stopped.choices
    assert (choice.text, choice.finish_reason, choice.stop_reason) == ("", "stop", PARIS)
    assert stopped.usage.completion_tokens == 1


def test_min_tokens_goes_on_past_the_end(client):
    asked = {"model": "smollm2", "messages": QUESTION, "temperature": 0, "max_tokens": 30}
    free = client.chat.completions.create(**asked)
    held = client.chat.completions.create(**asked, extra_body={"min_tokens": 20})
    assert free.usage.completion_tokens < 20 <= held.usage.completion_tokens


def test_a_prompt_is_cut_to_its_last_tokens(client):
    cut = complete(client, "a b c d e f g", max_tokens=1, extra_body={"truncate_prompt_tokens": 3})
    assert cut.usage.prompt_tokens == 3
    long = complete(client, "a " * 3000, max_tokens=1, extra_body={"truncate_prompt_tokens": 5})
    assert long.usage.prompt_tokens == 5


def test_a_prompt_is_cut_to_what_the_answer_leaves(client):
    """Of the 2048 tokens that the model takes."""
    cut = {"truncate_prompt_tokens": -1}
    for prompt, kept in (("a " * 3000, 2044), ("a b", 2)):
        assert complete(client, prompt, max_tokens=4, extra_body=cut).usage.prompt_tokens == kept
    asked = {"model": "smollm2", "messages": [{"role": "user", "content": "a " * 3000}], "extra_body": cut}
    assert client.chat.completions.create(**asked).usage.prompt_tokens == 2047
    assert client.chat.completions.create(**asked, max_completion_tokens=8).usage.prompt_tokens == 2040
    filled = complete(client, "a " * 3000, max_tokens=2048, extra_body=cut)
    assert (filled.usage.prompt_tokens, filled.usage.completion_tokens) == (2047, 1)


def test_a_repeated_prompt_comes_from_the_prefix_cache_unless_its_salt_differs(client, real):
    prompt = "The quick brown fox jumps over the lazy dog. " * 8
    before = real.metric("octavo_prefix_cache_hits_total")

    def cached(**body):
        return complete(client, prompt, max_tokens=1, extra_body=body).usage.prompt_tokens_details.cached_tokens

    assert cached(cache_salt="a") == 0
    again = cached(cache_salt="a")
    assert again >= 64
    assert cached(cache_salt="b") == 0
    assert real.metric("octavo_prefix_cache_hits_total") == before + again


def test_priority_is_accepted(client):
    assert complete(client, max_tokens=1, extra_body={"priority": -5}).usage.completion_tokens == 1


def test_closing_a_stream_frees_its_blocks(client, real):
    def blocks() -> dict:
        return httpx.get(f"{real.url}/debug/blocks", trust_env=False, timeout=PATIENCE).json()

    stream = complete(client, STORY * 8, n=3, max_tokens=1500, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    tables = blocks()["tables"]
    assert len(tables) == 3
    assert len({table[0] for table in tables.values()}) == 1, "the answers share their prompt's block"
    stream.close()
    eventually(lambda: not blocks()["tables"], "no answer holds a block")
    assert set(blocks()["references"]) == {0}
