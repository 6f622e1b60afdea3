"""POST /v1/responses, as the official SDK uses it and as its events come."""

import json

import event_reader
import httpx
import openai
import pytest
from patience import PATIENCE
from pydantic import BaseModel
from scripted_engine import ANSWER

TOOL = {
    "type": "function",
    "name": "weather",
    "description": "Of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
SPACE = {"type": "namespace", "name": "city", "description": "Of cities.", "tools": [TOOL]}
CUSTOM = {"type": "custom", "name": "patch", "description": "Changes files."}
ALLOWED = {"type": "allowed_tools", "mode": "auto"}
ALLOWED_NAME = "tool_choice.tools.0.name"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def says(text: str) -> str:
    return f"[say]{text}[/say]"


@pytest.fixture
def client(scripted):
    with openai.OpenAI(
        base_url=f"{scripted.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        yield client


def post(server, **body):
    return httpx.post(
        f"{server.url}/v1/responses", json={"model": "smollm2", "input": "hi"} | body, trust_env=False, timeout=PATIENCE
    )


def events(server, **body):
    """The events of a stream; each one's name must be its type."""
    read = event_reader.events(post(server, stream=True, **body).text)
    found = [event.data for event in read]
    assert [event["type"] for event in found] == [event.name for event in read]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def without_ids(value):
    """`value` without what differs from answer to answer."""
    if isinstance(value, dict):
        gone = ("id", "item_id", "call_id", "created_at", "completed_at")
        return {key: without_ids(one) for key, one in value.items() if key not in gone}
    return [without_ids(one) for one in value] if isinstance(value, list) else value


def test_create(client):
    response = client.responses.create(
        model="smollm2", input="What is the capital of France?", instructions="Be brief.", metadata={"a": "b"}
    )
    assert response.output_text == ANSWER
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    assert response.id.startswith("resp_")
    assert (response.instructions, response.metadata, response.model) == ("Be brief.", {"a": "b"}, "smollm2")
    [message] = response.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens_details.cached_tokens == 0
    assert usage.output_tokens_details.reasoning_tokens == 0


def test_the_prompt_is_that_of_the_same_chat(client):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    chat = client.chat.completions.create(
        model="smollm2",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Where?"},
            {"role": "user", "content": "In Paris."},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
        ],
        tools=[{"type": "function", "function": {key: TOOL[key] for key in TOOL if key != "type"}}],
        extra_body={"return_token_ids": True},
    )
    response = client.responses.create(
        model="smollm2",
        instructions="Be brief.",
        input=[
            {"role": "user", "content": "Weather?"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Where?"}]},
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "In "}, {"type": "input_text", "text": "Paris."}],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"role": "assistant", "content": "I look."},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Paris"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "Sunny"},
        ],
        tools=[TOOL],
    )
    assert response.usage.input_tokens == chat.usage.prompt_tokens == len(chat.prompt_token_ids)


def test_an_answer_goes_back_in_as_it_came_out(client):
    first = client.responses.create(model="smollm2", input=says(f"I look.{CALL}"), tools=[TOOL])
    message, call = first.output
    assert (message.content[0].text, call.name, json.loads(call.arguments)) == ("I look.", "weather", {"city": "Paris"})
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny"}]
    second = client.responses.create(model="smollm2", input=[*first.output, *outputs], tools=[TOOL])
    assert second.status == "completed"


def test_structured_output(client):
    class Person(BaseModel):
        name: str

    parsed = client.responses.parse(model="smollm2", input=says('{"name": "Ada"}'), text_format=Person)
    assert parsed.output_parsed == Person(name="Ada")
    assert parsed.text.format.type == "json_schema"
    with client.responses.stream(model="smollm2", input=says('{"name": "Ada"}'), text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == Person(name="Ada")


def test_the_sdk_reads_the_stream(client):
    asked = {"model": "smollm2", "input": says(f"I look.{CALL}"), "tools": [TOOL]}
    with client.responses.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        streamed = stream.get_final_response()
    whole = client.responses.create(**asked)
    assert streamed.output_text == whole.output_text == "I look."
    assert streamed.output[1].arguments == whole.output[1].arguments
    assert {"response.output_text.delta", "response.function_call_arguments.delta", "response.completed"} <= kinds


def test_logprobs(client):
    asked = {"model": "smollm2", "input": "hi", "top_logprobs": 2, "include": ["message.output_text.logprobs"]}
    [part] = client.responses.create(**asked).output[0].content
    assert b"".join(bytes(one.bytes) for one in part.logprobs).decode() == ANSWER
    assert {len(one.top_logprobs) for one in part.logprobs} == {2}
    deltas = [one for one in client.responses.create(**asked, stream=True) if one.type == "response.output_text.delta"]
    assert [one.token for delta in deltas for one in delta.logprobs] == [one.token for one in part.logprobs]


def test_the_events_of_a_text(scripted):
    found = events(scripted, input=says("Good day."))
    kinds = [event["type"] for event in found]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert "".join(event["delta"] for event in found[4:-4]) == found[-4]["text"] == "Good day."
    assert found[-1]["response"]["output"] == [found[-2]["item"]]


def test_reasoning_text_and_calls_each_are_an_item(start_scripted):
    server = start_scripted("--reasoning-parser", "think")
    server.wait_ready()
    asked = {"input": says(f"<think>hm hm</think>I look.{CALL}\n{CALL}"), "tools": [TOOL]}
    whole, found = post(server, **asked).json(), events(server, **asked)
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert whole["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm hm"}]
    assert whole["usage"]["output_tokens_details"]["reasoning_tokens"] > 3
    assert without_ids(found[-1]["response"]) == without_ids(whole)
    done = [event for event in found if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in done] == [0, 1, 2, 3]
    assert [event["item"] for event in done] == found[-1]["response"]["output"]
    deltas = [event["delta"] for event in found if event["type"] == "response.reasoning_text.delta"]
    assert "".join(deltas) == "hm hm"
    arguments = [event for event in found if event["type"] == "response.function_call_arguments.delta"]
    assert {event["output_index"] for event in arguments} == {2, 3}


def test_a_token_limit_makes_it_incomplete(scripted):
    whole, found = post(scripted, max_output_tokens=3).json(), events(scripted, max_output_tokens=3)
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert whole["output"][0]["status"] == "incomplete"
    assert whole["usage"]["output_tokens"] == 3
    assert found[-1]["type"] == "response.incomplete"
    assert without_ids(found[-1]["response"]) == without_ids(whole)


@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_answer_is_a_message(scripted, stream):
    asked = {"input": says("Good day."), "stop": "Good"}
    response = events(scripted, **asked)[-1]["response"] if stream else post(scripted, **asked).json()
    assert [part["text"] for item in response["output"] for part in item["content"]] == [""]


def test_what_fails_before_the_first_token_has_a_status(scripted):
    response = post(scripted, input="[refuse overloaded]", stream=True)
    assert (response.status_code, response.json()["error"]["code"]) == (429, "overloaded")
    response = post(scripted, input="[refuse invalid]", text={"format": _format({"type": "object"})})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "text.format.schema")


def test_what_fails_later_is_the_last_event(scripted):
    *_, last = events(scripted, input="[error deadline]")
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"]["code"] == "server_error"
    assert "time limit" in last["response"]["error"]["message"]


def _format(schema):
    return {"type": "json_schema", "name": "x", "schema": schema}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "not supported"),
        ({"background": True}, "background", "not supported"),
        ({"conversation": "conv_1"}, "conversation", "not supported"),
        ({"tools": [{"type": "local_shell"}]}, "tools.0", "local_shell"),
        ({"tools": [{"type": "web_search"}, TOOL, TOOL]}, "tools.2.name", "twice"),
        ({"tools": [SPACE, SPACE]}, "tools.1.tools.0.name", "twice"),
        ({"tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice", "web_search"),
        (
            {"tools": [TOOL], "tool_choice": ALLOWED | {"tools": [{"type": "function", "name": "x"}]}},
            ALLOWED_NAME,
            "'x'",
        ),
        ({"tools": [TOOL, TOOL]}, "tools.1.name", "twice"),
        ({"tools": [TOOL | {"name": "no good"}]}, "tools.0.name", "no good"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name", "'x'"),
        ({"max_output_tokens": 0}, "max_output_tokens", "got 0"),
        ({"temperature": -1.0}, "temperature", "got -1"),
        ({"top_logprobs": 2}, "top_logprobs", "include"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format", "name is required"),
        ({"input": []}, "input", "at least one item"),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "input.0", "function_call_output"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type", "input_text"),
        ({"input": [{"type": "function_call", "call_id": "a", "name": "b"}]}, "input.0.arguments", "required"),
        ({"input": "a " * 3000}, "input", "2047"),
        ({"top_p": 1.5}, "top_p", "got 1.5"),
        ({"nonsense": 1}, "nonsense", "unknown"),
    ],
)
def test_refusals_name_the_clients_own_fields(scripted, body, param, words):
    response = post(scripted, **body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param), error
    assert words in error["message"]
    assert error["message"].startswith((param, "text.format"))


@pytest.fixture(scope="module")
def strict(scripted_servers):
    server = scripted_servers("--strict")
    server.wait_ready()
    return server


@pytest.mark.parametrize(
    ("body", "ignored", "param"),
    [
        ({"truncation": "auto"}, "truncation", "truncation"),
        ({"client_metadata": {"a": "b"}}, "client_metadata", "client_metadata"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "text.verbosity"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary", "reasoning.summary"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort", "reasoning.effort"),
        ({"service_tier": "flex"}, "service_tier", "service_tier"),
        ({"context_management": [{"type": "compaction"}]}, "context_management", "context_management"),
        ({"max_output_tokens": 5000}, "max_output_tokens", "input"),
        ({"tools": [{"type": "web_search"}, TOOL]}, "tools.0", "tools.0.type"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools.*.defer_loading", "tools.0.defer_loading"),
        (
            {"tools": [CUSTOM | {"format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}}]},
            "tools.0.format",
            "tools.0.format",
        ),
    ],
)
def test_a_wish_is_ignored_and_named_or_by_a_strict_server_refused(scripted, strict, body, ignored, param):
    tolerant = post(scripted, **body)
    assert (tolerant.status_code, tolerant.headers.get("x-octavo-ignored")) == (200, ignored), tolerant.text
    refused = post(strict, **body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert "x-octavo-ignored" not in refused.headers


def test_null_is_absent_at_every_level_and_past_items_unknown_fields_are_ignored(scripted):
    response = post(
        scripted,
        instructions=None,
        truncation=None,
        text={"format": None, "verbosity": None},
        reasoning={"effort": None, "summary": None},
        tools=[TOOL | {"strict": None, "defer_loading": None}],
        metadata={"a": 1},
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "Hi", "new": 1}], "id": None, "new": 1},
            {"type": "reasoning", "summary": [], "encrypted_content": None, "content": None, "status": None},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Hi", "annotations": None}]},
            {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}", "id": None, "new": 1},
            {"type": "function_call_output", "call_id": "c", "output": "Sunny", "status": None},
        ],
    )
    assert response.status_code == 200, response.text
    assert response.json()["metadata"] == {"a": 1}
    assert "x-octavo-ignored" not in response.headers


def test_a_call_into_a_namespace_there_and_back(client, scripted):
    call = CALL.replace("weather", "city__weather")
    asked = {"model": "smollm2", "input": says(call), "tools": [SPACE, TOOL]}
    [item] = client.responses.create(**asked).output
    assert (item.type, item.namespace, item.name) == ("function_call", "city", "weather")
    *_, last = events(scripted, **asked)
    assert without_ids(last["response"]["output"]) == without_ids([item.to_dict()])
    output = {"type": "function_call_output", "call_id": item.call_id, "output": "Sunny"}
    assert client.responses.create(**asked | {"input": [*_asked(says(call)), item, output]}).status == "completed"
    [plain] = client.responses.create(**asked | {"input": says(CALL)}).output
    assert (plain.namespace, plain.name, plain.to_dict().get("namespace", "none")) == (None, "weather", "none")
    forced = {"type": "function", "namespace": "city", "name": "weather"}
    assert post(scripted, **asked | {"tool_choice": forced}).status_code == 200


def test_a_custom_tool_there_and_back(client, scripted):
    call = '<tool_call>\n{"name": "patch", "arguments": {"input": "a \\"b\\"\\n"}}\n</tool_call>'
    asked = {"model": "smollm2", "input": says(call), "tools": [CUSTOM]}
    [item] = client.responses.create(**asked).output
    assert (item.type, item.name, item.input) == ("custom_tool_call", "patch", 'a "b"\n')
    with client.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        [streamed] = stream.get_final_response().output
    assert streamed.input == item.input
    assert kinds == [event["type"] for event in events(scripted, **asked)]
    assert kinds[-4:-1] == [
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
    ]
    output = {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "Done"}
    assert client.responses.create(**asked | {"input": [*_asked(says(call)), item, output]}).status == "completed"
    cut = post(scripted, **asked | {"max_output_tokens": 25}).json()["output"][-1]
    assert (cut["type"], cut["status"]) == ("custom_tool_call", "incomplete")


def _asked(text):
    return [{"role": "user", "content": text}]


def test_only_allowed_tools_reach_the_model(scripted):
    def input_tokens(**body):
        return post(scripted, **body).json()["usage"]["input_tokens"]

    other = TOOL | {"name": "other"}
    named = [{"type": "function", "name": "weather"}, {"type": "web_search"}]
    choice = ALLOWED | {"tools": named}
    assert input_tokens(tools=[other, TOOL], tool_choice=choice) == input_tokens(tools=[TOOL])
    space = ALLOWED | {"tools": [{"type": "namespace", "name": "city"}]}
    assert input_tokens(tools=[other, SPACE], tool_choice=space) == input_tokens(tools=[SPACE])
    forced = post(scripted, tools=[other, TOOL], tool_choice=choice | {"mode": "required"}, input=says(CALL)).json()
    assert [item["name"] for item in forced["output"]] == ["weather"]


def test_input_tokens_are_those_of_the_answer(client):
    asked = {
        "model": "smollm2",
        "input": "What is the capital of France?",
        "instructions": "Be brief.",
        "tools": [TOOL],
    }
    counted = client.responses.input_tokens.count(**asked)
    assert counted.object == "response.input_tokens"
    assert counted.input_tokens == client.responses.create(**asked).usage.input_tokens
