"""POST /v1/messages, as Anthropic's official SDK uses it and as its events come."""

import json

import anthropic
import event_reader
import httpx
import pytest
from patience import PATIENCE, eventually
from pydantic import BaseModel
from scripted_engine import ANSWER

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "name": "weather",
    "description": "Of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
USE = {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def says(text: str) -> list[dict]:
    return [{"role": "user", "content": f"[say]{text}[/say]"}]


@pytest.fixture
def client(scripted):
    with anthropic.Anthropic(base_url=scripted.url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def post(server, path="/v1/messages", **body):
    body = {"model": "smollm2", "max_tokens": 100, "messages": QUESTION} | body
    return httpx.post(
        f"{server.url}{path}", json={key: body[key] for key in body if body[key] is not None}, timeout=PATIENCE
    )


def events(server, **body):
    """The events of a stream; each one's name must be its type."""
    read = event_reader.events(post(server, stream=True, **body).text)
    found = [event.data for event in read]
    assert [event["type"] for event in found] == [event.name for event in read]
    return found


def test_create(client):
    message = client.messages.create(model="smollm2", max_tokens=100, system="Be brief.", messages=QUESTION)
    assert (message.type, message.role, message.model) == ("message", "assistant", "smollm2")
    assert message.id.startswith("msg_")
    assert [(block.type, block.text) for block in message.content] == [("text", ANSWER)]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.usage.output_tokens > 10
    assert message.usage.cache_read_input_tokens == 0


def test_reasons_to_stop(client):
    asked = {"model": "smollm2", "messages": QUESTION}
    assert client.messages.create(max_tokens=3, **asked).stop_reason == "max_tokens"
    message = client.messages.create(max_tokens=100, stop_sequences=[" is", "never"], **asked)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " is")
    assert message.content[0].text == ANSWER[: ANSWER.index(" is")]


def test_stream(client):
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 5}
    asked = {"model": "smollm2", "max_tokens": 100, "messages": QUESTION, "extra_body": sampling}
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == ANSWER
        final = stream.get_final_message()
    whole = client.messages.create(**asked)
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert (final.usage.input_tokens, final.stop_reason) == (whole.usage.input_tokens, "end_turn")


def test_tools_there_and_back(client):
    asked = {"model": "smollm2", "max_tokens": 100, "tools": [TOOL]}
    question = says(f"I look.{CALL}")
    message = client.messages.create(messages=question, **asked)
    text, call = message.content
    assert (text.text, call.type, call.name, call.input) == ("I look.", "tool_use", "weather", {"city": "Paris"})
    assert message.stop_reason == "tool_use"
    with client.messages.stream(messages=question, **asked) as stream:
        streamed = stream.get_final_message()
    assert streamed.content[1].input == call.input
    assert streamed.stop_reason == "tool_use"
    results = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sunny"}]}
    asked["messages"] = [*question, {"role": "assistant", "content": message.content}, results]
    assert client.messages.create(**asked).content
    counted = {key: asked[key] for key in asked if key != "max_tokens"}
    assert client.messages.count_tokens(**counted).input_tokens == client.messages.create(**asked).usage.input_tokens


def test_structured_output(client):
    class Person(BaseModel):
        name: str

    asked = {"model": "smollm2", "max_tokens": 50, "messages": says('{"name": "Ada"}')}
    assert client.messages.parse(output_format=Person, **asked).parsed_output == Person(name="Ada")


def tokens(server, messages, **body):
    """The prompt of a chat request."""
    body = {"model": "smollm2", "messages": messages, "return_token_ids": True, "max_tokens": 1} | body
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=PATIENCE).json()["prompt_token_ids"]


def test_the_prompt_is_that_of_the_same_chat(scripted):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    chat = tokens(
        scripted,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Paris?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
            {"role": "user", "content": "Thanks."},
        ],
        tools=[
            {
                "type": "function",
                "function": {
                    "name": TOOL["name"],
                    "description": TOOL["description"],
                    "parameters": TOOL["input_schema"],
                },
            }
        ],
    )
    body = {
        "system": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}],
        "messages": [
            {"role": "user", "content": "Weather "},
            {
                "role": "user",
                "content": [{"type": "text", "text": "in Paris?", "cache_control": {"type": "ephemeral"}}],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "redacted_thinking", "data": "x"},
                    {"type": "text", "text": "I look."},
                    USE,
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Thanks."},
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "Sunny"}]},
                ],
            },
        ],
        "tools": [TOOL | {"type": "custom"}],
        "metadata": {"user_id": "u"},
    }
    counted = post(scripted, "/v1/messages/count_tokens", max_tokens=None, **body).json()
    assert counted == {"input_tokens": len(chat)}
    assert post(scripted, **body).json()["usage"]["input_tokens"] == len(chat)


def test_a_last_message_of_the_assistant_is_gone_on_from(scripted):
    opened = [*QUESTION, {"role": "assistant", "content": "The capital"}]
    chat = tokens(scripted, opened, continue_final_message=True)
    assert post(scripted, messages=opened).json()["usage"]["input_tokens"] == len(chat)
    assert len(chat) < len(tokens(scripted, opened))


TELLING = (
    "{{ enable_thinking }}"
    "{% for one in messages %}{{ one.role }}: ({{ one.reasoning_content }}) {{ one.content }}\n{% endfor %}"
)


def test_thinking_reaches_the_chat_template(scripted_models, model_with_template):
    server = scripted_models(model_with_template(TELLING), "--served-name", "smollm2")
    server.wait_ready()
    thought = {"role": "assistant", "reasoning": "It is old.", "content": "Paris."}
    expected = tokens(server, [*QUESTION, thought, *QUESTION], chat_template_kwargs={"enable_thinking": True})
    blocks = [{"type": "thinking", "thinking": "It is old.", "signature": ""}, {"type": "text", "text": "Paris."}]
    message = post(
        server,
        messages=[*QUESTION, {"role": "assistant", "content": blocks}, *QUESTION],
        thinking={"type": "enabled", "budget_tokens": 50},
    )
    assert message.json()["usage"]["input_tokens"] == len(expected)
    items = [
        *QUESTION,
        {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "It is old."}]},
        {"role": "assistant", "content": "Paris."},
        *QUESTION,
    ]
    body = {"model": "smollm2", "input": items, "chat_template_kwargs": {"enable_thinking": True}}
    response = httpx.post(f"{server.url}/v1/responses", json=body, timeout=PATIENCE)
    assert response.json()["usage"]["input_tokens"] == len(expected)
    assert len(tokens(server, [*QUESTION, thought | {"reasoning": None}, *QUESTION])) < len(expected)


def test_thinking_text_and_tools_each_are_a_block(start_scripted):
    server = start_scripted("--reasoning-parser", "think")
    server.wait_ready()
    asked = {"messages": says(f"<think>hm hm</think>I look.{CALL}\n{CALL}"), "tools": [TOOL]}
    whole, found = post(server, **asked).json(), events(server, **asked)
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert whole["content"][0]["thinking"] == "hm hm"
    starts = [event for event in found if event["type"] == "content_block_start"]
    assert [event["content_block"]["type"] for event in starts] == ["thinking", "text", "tool_use", "tool_use"]
    assert [event["index"] for event in starts] == [0, 1, 2, 3]
    grown = dict.fromkeys(range(4), "")
    for event in found:
        if event["type"] == "content_block_delta":
            [piece] = [event["delta"][key] for key in event["delta"] if key != "type"]
            grown[event["index"]] += piece
    assert grown[0] == "hm hm"
    assert grown[1] == "I look."
    assert json.loads(grown[2]) == json.loads(grown[3]) == {"city": "Paris"}
    again = {"role": "assistant", "content": whole["content"][:2]}
    assert post(server, messages=[*QUESTION, again, *QUESTION], thinking={"type": "adaptive"}).status_code == 200


def test_the_events_of_a_text(scripted):
    found = events(scripted, messages=says("Good day."))
    kinds = [event["type"] for event in found]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[3:-3]) == {"content_block_delta"}
    assert found[0]["message"]["usage"]["input_tokens"] == found[-2]["usage"]["input_tokens"] > 20
    assert found[0]["message"]["content"] == []
    assert found[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


def test_errors_are_the_sdks_own_classes(client):
    asked = {"model": "smollm2", "max_tokens": 9, "messages": QUESTION}
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**asked | {"model": "gpt-5"})
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(**asked, extra_body={"temperature": -1})
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(**asked | {"messages": [{"role": "user", "content": "[refuse overloaded]"}]})
    failing = asked | {"messages": [{"role": "user", "content": "[error deadline]"}]}
    with pytest.raises(anthropic.APIStatusError, match="time limit"), client.messages.stream(**failing) as stream:
        stream.until_done()


def test_what_fails_later_is_the_last_event(scripted):
    *_, last = events(scripted, messages=[{"role": "user", "content": "[error deadline]"}])
    assert last["type"] == "error"
    assert last["error"]["type"] == "timeout_error"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_a_client_that_goes_away_ends_its_answer(start_scripted, path):
    server = start_scripted()
    server.wait_ready()
    slow = [{"role": "user", "content": "[slow]"}]
    body = {"/v1/messages": {"messages": slow, "max_tokens": 1000}, "/v1/responses": {"input": slow}}[path]
    with httpx.stream(
        "POST", f"{server.url}{path}", json={"model": "smollm2", "stream": True} | body, timeout=PATIENCE
    ) as response:
        events = event_reader.read(response.iter_lines())  # without a reference to it the response would end
        assert next(events).name in ("message_start", "response.created")
        assert httpx.get(f"{server.url}/load", timeout=PATIENCE).json()["running"] == 1
    eventually(
        lambda: httpx.get(f"{server.url}/load", timeout=PATIENCE).json()["running"] == 0,
        "the answer ends without a reader",
    )


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"max_tokens": None}, "max_tokens", "required"),
        ({"max_tokens": 0}, "max_tokens", "got 0"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type", "adaptive"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0", "type: not supported"),
        ({"tools": [SEARCH, TOOL, TOOL]}, "tools.2.name", "twice"),
        ({"tools": [SEARCH], "tool_choice": {"type": "any"}}, "tool_choice", "got none"),
        ({"tools": [SEARCH, TOOL], "tool_choice": {"type": "tool", "name": "web_search"}}, "tool_choice.name", "weat"),
        ({"tools": [TOOL | {"name": "a" * 129}]}, "tools.0.name", "1 to 128 letters"),
        ({"tools": [TOOL, TOOL]}, "tools.1.name", "twice"),
        ({"tools": [TOOL | {"input_schema": {"type": "string"}}]}, "tools.0.input_schema", "object"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice", "name is required"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name", "'x'"),
        ({"stop_sequences": [""]}, "stop_sequences", ""),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0", "assistant"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0", "tool_result"),
        ({"messages": [{"role": "user", "content": "a " * 3000}]}, "messages", "2047"),
        ({"messages": [*QUESTION, {"role": "assistant", "content": [USE]}], "tools": [TOOL]}, "messages", "content"),
        ({"system": 1}, "system", "got 1"),
        ({"seed": 1}, "seed", "unknown"),
    ],
)
def test_refusals_name_the_field_in_anthropics_shape(scripted, body, field, words):
    response = post(scripted, **body)
    told = response.json()
    assert (response.status_code, told["type"], told["error"]["type"]) == (400, "error", "invalid_request_error"), told
    assert told["error"]["message"].startswith(field)
    assert words in told["error"]["message"]


@pytest.fixture(scope="module")
def strict(scripted_servers):
    server = scripted_servers("--strict")
    server.wait_ready()
    return server


@pytest.mark.parametrize(
    ("body", "ignored", "words"),
    [
        ({"max_tokens": 5000}, "max_tokens", "max_tokens 5000"),
        ({"mcp_servers": [{}]}, "mcp_servers", "not supported"),
        ({"container": "c"}, "container", "not supported"),
        ({"context_management": {"edits": []}}, "context_management", "not supported"),
        ({"service_tier": "fast"}, "service_tier", '"auto" or "standard_only"'),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, "thinking.display", '"summarized"'),
        ({"output_config": {"effort": "max"}}, "output_config.effort", "chat template"),
        ({"output_config": {"task_budget": {"total": 1}}}, "output_config.task_budget", "not supported"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools.*.defer_loading", "tools.0.defer_loading"),
        ({"tools": [TOOL, SEARCH]}, "tools.1", "tools.1.type: not supported"),
        ({"tools": [SEARCH]}, "tools.0", "web_search"),
    ],
)
def test_a_wish_is_ignored_and_named_or_by_a_strict_server_refused(scripted, strict, body, ignored, words):
    tolerant = post(scripted, **body)
    assert (tolerant.status_code, tolerant.headers.get("x-octavo-ignored")) == (200, ignored), tolerant.text
    refused = post(strict, **body)
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]
    assert "x-octavo-ignored" not in refused.headers


def test_nothing_is_said_to_be_ignored_where_nothing_was_wished(scripted, strict):
    body = {
        "metadata": {"user_id": "u", "new": 1},
        "service_tier": "auto",
        "mcp_servers": [],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "tools": [TOOL | {"defer_loading": False, "cache_control": {"type": "ephemeral"}}],
    }
    for server in (scripted, strict):
        response = post(server, **body)
        assert response.status_code == 200, response.text
        assert "x-octavo-ignored" not in response.headers


def test_null_is_absent_at_every_level_but_in_values(scripted):
    nothing = {
        "system": None,
        "output_config": {"format": None, "effort": None},
        "thinking": None,
        "context_management": None,
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": None},
        "tools": [TOOL | {"type": None, "strict": None, "cache_control": None}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "citations": None}], "name": None}],
    }
    plain = {"tools": [TOOL], "messages": [{"role": "user", "content": "Hi"}]}
    response = httpx.post(
        f"{scripted.url}/v1/messages", json={"model": "smollm2", "max_tokens": 9} | nothing, timeout=PATIENCE
    )
    assert response.status_code == 200, response.text
    assert (
        response.json()["usage"]["input_tokens"]
        == post(scripted, max_tokens=9, **plain).json()["usage"]["input_tokens"]
    )
    used = {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": None}}
    asked = [*QUESTION, {"role": "assistant", "content": [used]}]
    without = [*QUESTION, {"role": "assistant", "content": [used | {"input": {}}]}]
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "x"}]}
    with_null, empty = (post(scripted, messages=[*one, result]).json()["usage"] for one in (asked, without))
    assert with_null["input_tokens"] > empty["input_tokens"]


def test_a_past_messages_unknown_fields_are_ignored(scripted):
    past = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "new": 1}], "id": "m"},
        {"role": "assistant", "content": [USE | {"caller": {"type": "direct"}, "new": 1}], "stop_reason": "tool_use"},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "x", "new": 1}]},
    ]
    assert post(scripted, messages=past).status_code == 200


def test_tools_may_have_names_of_128_characters(client):
    name = f"mcp__{'a' * 123}"
    call = f'<tool_call>\n{{"name": "{name}", "arguments": {{"city": "Paris"}}}}\n</tool_call>'
    asked = {"model": "smollm2", "max_tokens": 200, "tools": [TOOL | {"name": name}]}
    question = says(call)
    message = client.messages.create(messages=question, **asked)
    [block] = message.content
    assert (block.name, block.input) == (name, {"city": "Paris"})
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "Sunny"}]}
    assert client.messages.create(messages=[*question, {"role": "assistant", "content": [block]}, result], **asked)
    forced = {"type": "tool", "name": name}
    assert client.messages.create(messages=question, tool_choice=forced, **asked).content


def test_ids_are_of_anthropics_kind(client, scripted):
    asked = {"model": "smollm2", "max_tokens": 100, "messages": says(CALL), "tools": [TOOL]}
    message = client.messages.create(**asked)
    assert message.content[0].id.startswith("toolu_")
    assert message._request_id
    [started] = [event for event in events(scripted, **asked) if event["type"] == "content_block_start"]
    assert started["content_block"]["id"].startswith("toolu_")
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(**asked | {"model": "gpt-5"})
    assert (
        missing.value.request_id == missing.value.body["request_id"] == missing.value.response.headers["x-request-id"]
    )


def test_a_whole_answer_has_no_field_that_anthropic_leaves_out(scripted):
    whole = post(scripted).json()
    assert whole["content"] == [{"type": "text", "text": ANSWER}]
    [start] = [event for event in events(scripted) if event["type"] == "content_block_start"]
    assert start["content_block"] == {"type": "text", "text": ""}


def test_models_are_told_in_anthropics_shape_to_their_clients(client, scripted):
    page = client.models.list()
    [model] = page.data
    assert (model.type, model.id, model.display_name, model.max_input_tokens) == ("model", "smollm2", "smollm2", 2048)
    assert model.created_at.year >= 2024
    assert not page.has_more
    assert client.models.retrieve("smollm2") == model
    assert httpx.get(f"{scripted.url}/v1/models", timeout=PATIENCE).json()["object"] == "list"


def test_other_refusals_have_that_shape_too(scripted):
    assert httpx.get(f"{scripted.url}/v1/messages", timeout=PATIENCE).json()["error"]["type"] == "invalid_request_error"
    assert httpx.get(f"{scripted.url}/v1/messages/x", timeout=PATIENCE).json()["error"]["type"] == "not_found_error"
    bad = httpx.post(f"{scripted.url}/v1/messages", content="{", headers={"Content-Type": "application/json"})
    assert bad.json()["error"]["type"] == "invalid_request_error"
