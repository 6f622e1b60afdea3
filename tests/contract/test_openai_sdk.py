"""The official SDK works by changing the base URL."""

import asyncio
import time

import httpx
import openai
import pytest

QUESTION = [{"role": "user", "content": "Name the capital of France."}]


@pytest.fixture
def client(server):
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        yield client


def test_chat(client):
    answer = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0, max_tokens=40)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert abs(answer.created - time.time()) < 60
    assert answer.model == "smollm2"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 3 < answer.usage.completion_tokens <= 40


def test_chat_stream_is_the_same_answer_in_pieces(client):
    asked = {"model": "smollm2", "messages": QUESTION, "temperature": 0, "max_tokens": 8}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 3, "one piece for each token or so"
    ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert ends == [None] * (len(ends) - 1) + [whole.choices[0].finish_reason]
    assert chunks[-1].choices == []
    # How much of the prompt was found in the cache depends on what was asked before.
    told, expected = (usage.model_dump(exclude={"prompt_tokens_details"}) for usage in (chunks[-1].usage, whole.usage))
    assert told == expected
    assert len({chunk.id for chunk in chunks}) == 1


def test_no_usage_in_the_stream_unless_asked(client):
    chunks = list(client.chat.completions.create(model="smollm2", messages=QUESTION, max_tokens=3, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_content_parts_developer_role_and_neutral_fields(client):
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is the "}, {"type": "text", "text": "capital?"}],
            },
            {"role": "assistant", "content": "Of what?", "refusal": None, "tool_calls": None},
            {"role": "user", "content": "Of France."},
        ],
        max_completion_tokens=4,
        n=1,
        logprobs=False,
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        response_format={"type": "text"},
        tool_choice="none",
        service_tier="auto",
        user="someone",
        metadata={"a": "b"},
        store=False,
        seed=1,
        top_p=0.9,
        extra_body={"top_k": 5, "min_p": 0.1, "stop_token_ids": [0], "ignore_eos": True},
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4


def test_parts_are_the_same_prompt_as_a_string(client):
    asked = {"model": "smollm2", "max_tokens": 1}
    text = client.chat.completions.create(messages=[{"role": "user", "content": "ab"}], **asked)
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert client.chat.completions.create(messages=[{"role": "user", "content": parts}], **asked).usage == text.usage


def test_completion(client):
    answer = client.completions.create(model="smollm2", prompt="The capital of France is", temperature=0, max_tokens=5)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"
    pieces = client.completions.create(
        model="smollm2", prompt="The capital of France is", temperature=0, max_tokens=5, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in pieces) == answer.choices[0].text


def test_completion_default_is_sixteen_tokens(client):
    answer = client.completions.create(model="smollm2", prompt="Once", extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 16


@pytest.mark.parametrize("prompts", [["Once upon", "The sky is", "2 + 2 ="], [[504, 7343], [504, 7343, 11]]])
def test_several_prompts_at_once(client, prompts):
    asked = {"model": "smollm2", "temperature": 0, "max_tokens": 4}
    answer = client.completions.create(prompt=prompts, **asked)
    assert [choice.index for choice in answer.choices] == list(range(len(prompts)))
    texts = dict.fromkeys(range(len(prompts)), "")
    for chunk in client.completions.create(prompt=prompts, stream=True, **asked):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert [texts[choice.index] for choice in answer.choices] == [choice.text for choice in answer.choices]
    single = client.completions.create(prompt=prompts[0], **asked)
    assert single.usage.prompt_tokens < answer.usage.prompt_tokens


def test_stop_strings_are_not_part_of_the_answer(client):
    whole = client.chat.completions.create(model="smollm2", messages=QUESTION, temperature=0, max_tokens=40)
    text = whole.choices[0].message.content
    stop = " is"
    assert stop in text
    stopped = client.chat.completions.create(
        model="smollm2", messages=QUESTION, temperature=0, max_tokens=40, stop=[stop, "never"]
    )
    assert stopped.choices[0].message.content == text[: text.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.usage.completion_tokens < whole.usage.completion_tokens


def test_models(client):
    [model] = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("smollm2", "model", "octavo")
    assert client.models.retrieve("smollm2") == model
    assert model.max_model_len == 2048


def test_errors_are_the_sdks_own_classes(client):
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("a/b")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="smollm2", messages=QUESTION, n=65)
    assert refused.value.param == "n"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="smollm2", prompt="a " * 3000)
    assert long.value.code == "context_length_exceeded"
    assert "2048" in long.value.message


async def test_requests_run_side_by_side(server):
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=False),
    ) as client:
        asked = {"model": "smollm2", "messages": QUESTION, "temperature": 0, "max_tokens": 8}
        answers = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(8)))
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert len({answer.id for answer in answers}) == 8
