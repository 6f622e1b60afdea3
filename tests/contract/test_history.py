"""A conversation goes on with what the server and its clients' libraries made of it; null is as good as nothing."""

import json
from typing import Any

import httpx
import openai
import pydantic
import pytest
from patience import PATIENCE

QUESTION = {"role": "user", "content": "What is the capital of France?"}
NEXT = {"role": "user", "content": "And of Italy?"}


class Capital(pydantic.BaseModel):
    city: str


@pytest.fixture
def client(scripted):
    with openai.OpenAI(
        base_url=f"{scripted.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        yield client


def say(text: str) -> dict[str, str]:
    return {"role": "user", "content": f"[say]{text}[/say]"}


def ask(server, messages: list[Any], path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
    body = {"model": "smollm2", "messages": messages, **fields}
    headers = {"Content-Type": "application/json"}
    return httpx.post(server.url + path, content=json.dumps(body), headers=headers, trust_env=False, timeout=PATIENCE)


def tokens(server, messages: list[Any]) -> list[int]:
    response = ask(server, messages, "/tokenize")
    assert response.status_code == 200, response.text
    return response.json()["tokens"]


def assistant(**fields: Any) -> list[dict[str, Any]]:
    return [QUESTION, {"role": "assistant", "content": "Paris.", **fields}, NEXT]


def test_a_parsed_answer_comes_back(client):
    asked = [say('{"city": "Paris"}')]
    made = client.chat.completions.parse(model="smollm2", messages=asked, response_format=Capital).choices[0].message
    assert made.parsed == Capital(city="Paris")
    answer = client.chat.completions.create(model="smollm2", messages=[*asked, made, NEXT], max_tokens=3)
    assert answer.choices[0].message.content


def test_a_parsed_call_from_a_stream_comes_back(client):
    tool = openai.pydantic_function_tool(Capital)
    asked = [say('<tool_call>{"name": "Capital", "arguments": {"city": "Paris"}}</tool_call>')]
    with client.chat.completions.stream(model="smollm2", messages=asked, tools=[tool]) as stream:
        made = stream.get_final_completion().choices[0].message
    assert made.tool_calls[0].function.parsed_arguments == Capital(city="Paris")
    result = {"role": "tool", "tool_call_id": made.tool_calls[0].id, "content": "Yes."}
    answer = client.chat.completions.create(model="smollm2", messages=[*asked, made, result], max_tokens=3)
    assert answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
def test_litellms_answer_comes_back(scripted, monkeypatch, stream):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm", reason="needs litellm (pip install litellm)")
    connection = {"model": "openai/smollm2", "api_base": f"{scripted.url}/v1", "api_key": "none"}
    made = litellm.completion(**connection, messages=[QUESTION], max_tokens=3, stream=stream)
    if stream:
        made = litellm.stream_chunk_builder(list(made), messages=[QUESTION])
    message = made.choices[0].message
    assert message.content == "The capital of"
    answer = litellm.completion(**connection, messages=[QUESTION, message, NEXT], max_tokens=3)
    assert answer.choices[0].message.content
    dumped = message.model_dump()
    assert litellm.completion(**connection, messages=[QUESTION, dumped, NEXT], max_tokens=3).choices[0].message.content


@pytest.mark.parametrize(
    "noted",
    [
        {"parsed": {"city": "Paris"}},
        {"provider_specific_fields": {"refusal": None}, "annotations": [{"type": "url_citation"}], "id": "msg_1"},
        {"content": [{"type": "text", "text": "Paris.", "cache_control": {"type": "ephemeral"}, "index": 0}]},
        {"refusal": None, "tool_calls": None, "function_call": None, "audio": None, "reasoning": None, "name": None},
        {"tool_calls": [], "annotations": []},
        {"parsed": {"text": "\ud800", "number": float("nan")}},
    ],
    ids=range(6),
)
def test_what_is_noted_in_history_changes_nothing(scripted, noted):
    assert tokens(scripted, assistant(**noted)) == tokens(scripted, assistant())
    assert ask(scripted, assistant(**noted), max_tokens=1).status_code == 200


def test_what_is_noted_in_a_call_changes_nothing(scripted):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    noted = {
        **call,
        "type": None,
        "index": 0,
        "extra_content": {"google": {}},
        "function": {**call["function"], "parsed_arguments": {}, "strict": True},
    }
    result = {"role": "tool", "tool_call_id": "1", "content": "Yes."}
    plain = [QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}, result]
    with_notes = [
        {**QUESTION, "id": "u1", "createdAt": "2026-01-01"},
        {"role": "assistant", "content": None, "tool_calls": [noted]},
        {**result, "status": "success", "artifact": {"a": 1}, "cache_control": {"type": "ephemeral"}},
    ]
    assert tokens(scripted, with_notes) == tokens(scripted, plain)


def test_hints_are_no_part_of_what_is_asked(scripted):
    part = {"type": "text", "text": QUESTION["content"], "cache_control": {"type": "ephemeral"}}
    for message in ({"role": "user", "content": [part]}, {**QUESTION, "cache_control": {"type": "ephemeral"}}):
        assert tokens(scripted, [message]) == tokens(scripted, [QUESTION])


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("content", [{}, {"content": None}], ids=["absent", "null"])
def test_an_answer_that_only_reasoned_comes_back(scripted, field, content):
    """SmolLM2's template shows no reasoning, and null would stand there as the word None."""
    message = {"role": "assistant", field: "hm", **content}
    assert tokens(scripted, [QUESTION, message, NEXT]) == tokens(scripted, assistant(content=""))
    empty = ask(scripted, [QUESTION, {"role": "assistant", "content": None}, NEXT])
    assert empty.status_code == 400
    assert empty.json()["error"]["param"] == "messages.1.content"


def test_no_reasoning_is_left_out(scripted):
    message = ask(scripted, [QUESTION], max_tokens=2).json()["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "The capital", "refusal": None}


@pytest.mark.slow
def test_what_a_chat_template_names_reaches_it(scripted_models, model_with_template):
    template = "{% for m in messages %}{{ m.content }}{% if m.tool_plan %}[{{ m.tool_plan }}]{% endif %}{% endfor %}"
    server = scripted_models(model_with_template(template), "--served-name", "smollm2")
    server.wait_ready()
    read = tokens(server, assistant(tool_plan="Look it up.", parsed={"a": 1}))
    assert read != tokens(server, assistant(parsed={"a": 1}))
    detokenized = httpx.post(
        f"{server.url}/detokenize", json={"tokens": read}, trust_env=False, timeout=PATIENCE
    ).json()["prompt"]
    assert detokenized == f"{QUESTION['content']}Paris.[Look it up.]{NEXT['content']}"
    refused = ask(server, assistant(tool_plan="\ud800"))
    assert refused.status_code == 400, "what reaches it must be text"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {
                "messages": [QUESTION],
                "stream": True,
                "stream_options": {"include_usage": None, "continuous_usage_stats": None, "include_obfuscation": None},
                "response_format": {"type": "text", "json_schema": None},
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "description": None, "parameters": None, "strict": None},
                    }
                ],
                "max_tokens": 1,
            },
        ),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 1, "echo": None, "add_special_tokens": None, "n": None}),
        (
            "/v1/embeddings",
            {
                "input": "hi",
                "encoding_format": None,
                "dimensions": None,
                "user": None,
                "pooling": None,
                "normalize": None,
                "add_special_tokens": None,
                "truncate_prompt_tokens": None,
                "priority": None,
                "cache_salt": None,
            },
        ),
        ("/tokenize", {"prompt": "hi", "messages": None, "add_special_tokens": None, "return_token_strs": None}),
    ],
    ids=["chat", "completions", "embeddings", "tokenize"],
)
def test_null_is_as_good_as_nothing(scripted, path, body):
    response = httpx.post(scripted.url + path, json={"model": "smollm2", **body}, trust_env=False, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    plain = json.loads(json.dumps(body), object_hook=lambda found: {k: v for k, v in found.items() if v is not None})
    again = httpx.post(scripted.url + path, json={"model": "smollm2", **plain}, trust_env=False, timeout=PATIENCE)
    if path in ("/v1/embeddings", "/tokenize"):
        assert response.json() == again.json()
    else:
        assert len(response.content) == len(again.content)
