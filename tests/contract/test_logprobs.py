"""Log-probabilities in OpenAI's shapes, through the official SDK and the real engine."""

import math

import httpx
import openai
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
PROMPT = "The capital of France is"


@pytest.fixture
def client(real):
    with openai.OpenAI(
        base_url=f"{real.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        yield client


def complete(client, **asked):
    return client.completions.create(**{"model": "smollm2", "prompt": PROMPT, "temperature": 0, **asked})


def test_chat_tokens_make_up_the_answer(client):
    asked = {
        "model": "smollm2",
        "messages": QUESTION,
        "temperature": 0,
        "max_tokens": 30,
        "logprobs": True,
        "top_logprobs": 3,
    }
    whole = client.chat.completions.create(**asked)
    content = whole.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in content).decode() == whole.choices[0].message.content
    for entry in content:
        assert entry.token.encode() == bytes(entry.bytes)
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token, "greedy takes the likeliest"
        assert entry.logprob == entry.top_logprobs[0].logprob
        assert entry.top_logprobs == sorted(entry.top_logprobs, key=lambda one: -one.logprob)
        assert sum(math.exp(one.logprob) for one in entry.top_logprobs) <= 1.0001
    streamed = [
        entry
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ]
    assert [entry.token for entry in streamed] == [entry.token for entry in content]
    assert [entry.logprob for entry in streamed] == pytest.approx([entry.logprob for entry in content], abs=1e-4)


def test_chat_without_top_logprobs_reports_the_chosen_token_alone(client):
    answer = client.chat.completions.create(model="smollm2", messages=QUESTION, logprobs=True, max_tokens=3)
    assert all(entry.top_logprobs == [] for entry in answer.choices[0].logprobs.content)
    assert answer.usage.completion_tokens == 3
    plain = client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=1)
    assert plain.choices[0].logprobs is None


def test_tokens_of_a_stop_string_are_left_out(client):
    asked = {"temperature": 0, "max_tokens": 20, "logprobs": 0, "prompt": "1, 2, 3, 4,", "stop": [", 7"]}
    whole = complete(client, **asked).choices[0]
    assert whole.text == " 5, 6"
    assert "".join(whole.logprobs.tokens) == whole.text
    assert whole.logprobs.text_offset == [0, 1, 2, 3, 4][: len(whole.logprobs.tokens)]
    pieces = [chunk.choices[0] for chunk in complete(client, **asked, stream=True)]
    assert [token for piece in pieces for token in piece.logprobs.tokens] == whole.logprobs.tokens
    assert [offset for piece in pieces for offset in piece.logprobs.text_offset] == whole.logprobs.text_offset


def test_completion_logprobs_are_parallel_lists(client):
    [choice] = complete(client, max_tokens=5, logprobs=4).choices
    scores = choice.logprobs
    assert "".join(scores.tokens) == choice.text
    assert len(scores.tokens) == len(scores.token_logprobs) == len(scores.top_logprobs) == len(scores.text_offset) == 5
    for token, logprob, top, offset in zip(
        scores.tokens, scores.token_logprobs, scores.top_logprobs, scores.text_offset, strict=True
    ):
        assert len(top) == 4
        assert max(top, key=top.get) == token
        assert top[token] == logprob
        assert choice.text[offset:].startswith(token)


@pytest.mark.parametrize("stream", [False, True])
def test_echo_scores_the_prompt_as_evaluation_harnesses_ask(client, stream):
    """Loglikelihood requests of such harnesses: echo, logprobs, and no new token, or one that they ignore."""
    for max_tokens in (0, 1):
        asked = {"prompt": f"{PROMPT} Paris", "echo": True, "logprobs": 1, "max_tokens": max_tokens, "stream": stream}
        answer = complete(client, **asked)
        choice = next(iter(answer)).choices[0] if stream else answer.choices[0]
        scores = choice.logprobs
        assert scores.tokens[:6] == ["The", " capital", " of", " France", " is", " Paris"]
        assert len(scores.tokens) == 6 + max_tokens
        assert choice.text == "".join(scores.tokens)
        assert scores.text_offset[:6] == [0, 3, 11, 14, 21, 24]
        assert scores.token_logprobs[0] is None
        assert scores.top_logprobs[0] is None
        assert max(scores.top_logprobs[5], key=scores.top_logprobs[5].get) == " Paris"
        assert all(logprob < 0 for logprob in scores.token_logprobs[1:])
        if not stream:
            assert answer.usage.completion_tokens == max_tokens
            assert choice.finish_reason == "length"


def test_scores_of_a_prompt_and_of_an_answer_agree(client):
    prompt = [504, 3575, 282, 4649, 314]
    answered = complete(client, prompt=prompt, max_tokens=4, logprobs=0, extra_body={"return_token_ids": True})
    answer = answered.choices[0]
    scored = complete(client, prompt=prompt + answer.token_ids, echo=True, logprobs=0, max_tokens=0).choices[0]
    assert scored.logprobs.tokens[5:] == answer.logprobs.tokens
    assert scored.logprobs.token_logprobs[5:] == pytest.approx(answer.logprobs.token_logprobs, abs=1e-3)


def test_echo_without_logprobs_repeats_the_prompt_before_each_answer(client):
    plain = complete(client, max_tokens=3)
    echoed = complete(client, max_tokens=3, echo=True, n=2)
    assert [choice.text for choice in echoed.choices] == [PROMPT + plain.choices[0].text] * 2
    tokens = complete(client, prompt=[504, 3575], max_tokens=0, echo=True)
    assert tokens.choices[0].text == "The capital"


def test_prompt_logprobs_and_token_ids_as_vllm_reports_them(client):
    [choice] = complete(client, max_tokens=2, extra_body={"prompt_logprobs": 1, "return_token_ids": True}).choices
    assert choice.prompt_token_ids == [504, 3575, 282, 4649, 314]
    assert len(choice.token_ids) == 2
    assert choice.prompt_logprobs[0] is None
    for token, entry in zip(choice.prompt_token_ids[1:], choice.prompt_logprobs[1:], strict=True):
        own = entry[str(token)]
        assert min(one["rank"] for one in entry.values()) == 1
        assert len(entry) == (1 if own["rank"] == 1 else 2)
    assert choice.prompt_logprobs[2]["282"]["decoded_token"] == " of"
    chat = client.chat.completions.create(
        model="smollm2", messages=QUESTION, max_tokens=2, extra_body={"prompt_logprobs": 0, "return_token_ids": True}
    )
    assert len(chat.prompt_logprobs) == len(chat.prompt_token_ids) == chat.usage.prompt_tokens
    assert len(chat.choices[0].token_ids) == 2
    chunks = list(
        client.chat.completions.create(
            model="smollm2",
            messages=QUESTION,
            max_tokens=2,
            temperature=0,
            stream=True,
            extra_body={"return_token_ids": True},
        )
    )
    assert chunks[0].prompt_token_ids == chat.prompt_token_ids
    assert sum(len(chunk.choices[0].token_ids or []) for chunk in chunks) == 2
