"""Every bad request is a 4xx in OpenAI's shape that names what is wrong, and the engine lives on."""

import json
from typing import Any

import httpx
import pytest
from patience import PATIENCE

CHAT = {"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
COMPLETION = {"model": "smollm2", "prompt": "hi", "max_tokens": 1}
_DEEP = "[" * 900 + "]" * 900


def chat(**changes: Any) -> tuple[str, str, str]:
    return "POST", "/v1/chat/completions", json.dumps({**CHAT, **changes})


def completion(**changes: Any) -> tuple[str, str, str]:
    return "POST", "/v1/completions", json.dumps({**COMPLETION, **changes})


def embedding(**changes: Any) -> tuple[str, str, str]:
    return "POST", "/v1/embeddings", json.dumps({"model": "smollm2", **changes})


def message(**changes: Any) -> tuple[str, str, str]:
    return chat(messages=[{"role": "user", "content": "hi", **changes}])


# request, status, field at fault, words of the message
BAD = [
    (("POST", "/v1/chat/completions", "{"), 400, None, "not valid JSON"),
    (("POST", "/v1/chat/completions", ""), 400, None, "sent with Content-Type: application/json, got nothing"),
    (("POST", "/v1/chat/completions", " "), 400, None, "not valid JSON"),
    (("POST", "/v1/chat/completions", b'{"model": "\xff"}'), 400, None, "JSON in UTF-8, and has other bytes at 11"),
    (("POST", "/v1/chat/completions", f'{{"n": {"1" * 5000}}}'), 400, None, "no number of more than 4300 digits"),
    (("POST", "/v1/chat/completions", "[]"), 400, None, "must be a JSON object"),
    (("POST", "/v1/chat/completions", f'{{"messages": {_DEEP}}}'), 400, None, ""),
    (("POST", "/v1/chat/completions", "[" * 100_000), 400, None, "body"),
    (("POST", "/v1/chat/completions", '{"model": "smollm2"}'), 400, "messages", "required"),
    (("POST", "/v1/chat/completions", "{}"), 400, "messages", "required"),
    (("GET", "/v1/nothing", ""), 404, None, "no such endpoint: GET /v1/nothing"),
    (("POST", "/v1/models/", "{}"), 405, None, "allowed"),
    (("GET", "/v1/chat/completions", ""), 405, None, "allowed: POST"),
    (("GET", "/v1/models/gpt-5", ""), 404, "model", "there is: smollm2"),
    (chat(model="gpt-5"), 404, "model", "there is: smollm2"),
    (chat(model=5), 400, "model", "valid string, got 5"),
    (chat(messages=[]), 400, "messages", "at least 1"),
    (chat(messages="hi"), 400, "messages", "valid list, got 'hi'"),
    (message(role="robot"), 400, "messages.0.role", "'tool', got 'robot'"),
    (message(content=None), 400, "messages.0.content", "got None"),
    (message(content=5), 400, "messages.0.content", "got 5"),
    (message(content=[{"type": "image_url", "image_url": {}}]), 400, None, "image_url"),
    (message(content=[{"type": "text"}]), 400, "messages.0.content.0.text", "required"),
    (message(colour="red"), 400, "messages.0.colour", "unknown field"),
    (message(images=["aGk="]), 400, "messages.0.images", "unknown field"),
    (message(role="assistant", function_call={"name": "f"}), 400, "messages.0.function_call", "should be None"),
    (message(role="assistant", refusal="no"), 400, "messages.0.refusal", "should be None, got 'no'"),
    (message(role="assistant", audio={"id": "a"}), 400, "messages.0.audio", "should be None"),
    (message(tool_calls=[{"id": "1"}]), 400, "messages.0.tool_calls.0.function", "required"),
    (message(content="a" * 200_000), 400, "messages", "got 200000 characters, which are at least 2469"),
    (completion(prompt="a" * 200_000), 400, "prompt", "got 200000 characters"),
    (("POST", "/tokenize", json.dumps({"prompt": "a" * 200_000})), 400, "prompt", "got 200000 characters"),
    (embedding(input="a" * 200_000), 400, "input", "got 200000 characters"),
    (embedding(input=["hi", "a" * 200_000]), 400, "input.1", "got 200000 characters"),
    (
        chat(tools=[{"type": "function", "function": {"name": "f", "description": "a" * 200_000}}]),
        400,
        "messages",
        "characters, which are at least 24",
    ),
    (chat(temperture=1), 400, "temperture", "unknown field"),
    (chat(**{"\ud800": 1}), 400, None, "must be valid Unicode, got '\\ud800'"),
    (chat(**{"a\n\x1b\u2028b": 1}), 400, "a\n\x1b\u2028b", r"a\n\x1b\u2028b: unknown field"),
    (chat(temperature=-1), 400, "temperature", "from 0 to 100, got -1"),
    (chat(temperature="hot"), 400, "temperature", "valid number, got 'hot'"),
    (chat(temperature=float("nan")), 400, "temperature", "got nan"),
    (chat(temperature=float("inf")), 400, "temperature", "got inf"),
    (chat(top_p=0), 400, "top_p", "above 0"),
    (chat(top_p=1.5), 400, "top_p", "from 0 to 1, got 1.5"),
    (chat(top_k=-2), 400, "top_k", "got -2"),
    (chat(min_p=2), 400, "min_p", "got 2"),
    (chat(seed=2**64), 400, "seed", ""),
    (chat(max_tokens=0), 400, "max_tokens", "greater than or equal to 1, got 0"),
    (chat(max_tokens=True), 400, "max_tokens", "valid integer, got True"),
    (chat(max_tokens=1.5), 400, "max_tokens", "got 1.5"),
    (chat(max_completion_tokens=2), 400, "max_completion_tokens", "contradicts max_tokens (1), got 2"),
    (chat(stop=[str(i) for i in range(17)]), 400, "stop", "at most 16 strings, got 17"),
    (chat(stop=""), 400, "stop", "1 to 1024 characters, got 0"),
    (chat(stop=[1]), 400, "stop.0", "valid string, got 1"),
    (chat(stop_token_ids=[-1]), 400, "stop_token_ids", "got -1"),
    (chat(n=0), 400, "n", "from 1 to 64, got 0"),
    (chat(n=10**30), 400, "n", "from 1 to 64, got 10000"),
    (chat(n=True), 400, "n", "got True"),
    (chat(n=3, best_of=2), 400, None, "best_of: must be at least n (3), got 2"),
    (chat(best_of=65), 400, "best_of", "less than or equal to 64, got 65"),
    (chat(best_of=2, stream=True), 400, "best_of", "must be n (1) in a stream"),
    (chat(logprobs=3), 400, "logprobs", "valid boolean, got 3"),
    (chat(top_logprobs=3), 400, "top_logprobs", "only allowed when logprobs is true, got 3"),
    (chat(logprobs=True, top_logprobs=21), 400, "top_logprobs", "less than or equal to 20, got 21"),
    (chat(logprobs=True, top_logprobs=-1), 400, "top_logprobs", "got -1"),
    (chat(prompt_logprobs=65), 400, "prompt_logprobs", "from 0 to 64, got 65"),
    (chat(prompt_logprobs=1, stream=True), 400, "prompt_logprobs", "not available in a stream, got 1"),
    (chat(presence_penalty=2.5), 400, "presence_penalty", "from -2 to 2, got 2.5"),
    (chat(presence_penalty=float("nan")), 400, "presence_penalty", "got nan"),
    (chat(frequency_penalty=-3), 400, "frequency_penalty", "from -2 to 2, got -3"),
    (chat(repetition_penalty=0), 400, "repetition_penalty", "from 0.01 to 10, got 0"),
    (chat(repetition_penalty=float("inf")), 400, "repetition_penalty", "got inf"),
    (chat(logit_bias={"1": 101}), 400, "logit_bias", "from -100 to 100, got 101"),
    (chat(logit_bias={"1": float("nan")}), 400, "logit_bias", "got nan"),
    (chat(logit_bias={"a": 1}), 400, "logit_bias", "keys must be token ids, got 'a'"),
    (chat(logit_bias={"9" * 5000: 1}), 400, "logit_bias", "keys must be token ids"),
    (chat(logit_bias=[1]), 400, "logit_bias", "got [1]"),
    (chat(min_tokens=2), 400, "min_tokens", "at most max_tokens (1), got 2"),
    (chat(min_tokens=-1), 400, "min_tokens", "got -1"),
    (chat(allowed_token_ids=[2**40]), 400, "allowed_token_ids", "got 1099511627776"),
    (chat(bad_words=[""]), 400, "bad_words", "1 to 1024 characters, got 0"),
    (chat(bad_words=["\ud800"]), 400, "bad_words.0", "must be valid Unicode"),
    (chat(truncate_prompt_tokens=0), 400, "truncate_prompt_tokens", "at least 1, or -1 for the most"),
    (chat(truncate_prompt_tokens=-2), 400, "truncate_prompt_tokens", "from -1 to 2147483647, got -2"),
    (chat(priority=2**31), 400, "priority", "less than or equal to 2147483647, got 2147483648"),
    (chat(priority=10**400), 400, "priority", ""),
    (chat(cache_salt=""), 400, "cache_salt", "at least 1 character, got ''"),
    (chat(length_penalty=2), 400, "length_penalty", "needs use_beam_search, got 2"),
    (chat(use_beam_search=True, top_p=0.5), 400, "top_p", "cannot be combined with use_beam_search, got 0.5"),
    (chat(use_beam_search=True, logprobs=True), 400, "logprobs", "cannot be combined with use_beam_search"),
    (chat(response_format={"type": "yaml"}), 400, "response_format.type", "'json_schema', got 'yaml'"),
    (chat(response_format={"type": "json_schema"}), 400, "response_format", "json_schema is required"),
    (
        chat(response_format={"type": "json_schema", "json_schema": {"name": "a"}}),
        400,
        "response_format.json_schema.schema",
        "required",
    ),
    (chat(response_format={"type": "text", "json_schema": {"name": "a", "schema": {}}}), 400, "response_format", ""),
    (
        chat(response_format={"type": "json_object"}, guided_regex="a"),
        400,
        "guided_regex",
        "cannot be combined with response_format",
    ),
    (chat(guided_choice=["a"], guided_json={}), 400, "guided_choice", "cannot be combined with guided_json"),
    (chat(guided_regex="a", use_beam_search=True), 400, "guided_regex", "cannot be combined with use_beam_search"),
    (chat(guided_choice=[]), 400, "guided_choice", "exactly one"),
    (chat(guided_json=5), 400, "guided_json", "got 5"),
    (chat(guided_regex="\ud800"), 400, "guided_regex", "must be valid Unicode"),
    (chat(structured_outputs={}), 400, "structured_outputs", "exactly one of"),
    (chat(structured_outputs={"regex": "a", "choice": ["b"]}), 400, "structured_outputs", "got regex, choice"),
    (chat(structured_outputs={"xml": "a"}), 400, "structured_outputs.xml", "unknown field"),
    (chat(tools=[{"type": "function"}]), 400, "tools.0.function", "required"),
    (chat(tool_choice="required"), 400, "tool_choice", "needs tools, got none"),
    (chat(stream_options={"include_usage": True}), 400, "stream_options", "only allowed when stream is true"),
    (chat(stream="yes"), 400, "stream", "valid boolean, got 'yes'"),
    (completion(prompt=""), 400, "prompt", "at least one token"),
    (completion(prompt=[]), 400, "prompt", "must be a string, a list of strings"),
    (completion(prompt=["a", 1]), 400, "prompt", "must be a string, a list of strings"),
    (completion(prompt=[[]]), 400, "prompt", "none empty"),
    (completion(prompt={"a": 1}), 400, "prompt", "got {'a': 1}"),
    (completion(prompt=["a"] * 129), 400, "prompt", "at most 128 prompts, these are 129"),
    (completion(prompt=[49152]), 400, "prompt", "from 0 to 49151, got 49152"),
    (completion(prompt=[-1]), 400, "prompt", "from 0 to 49151, got -1"),
    (completion(prompt=[1] * 2048), 400, "prompt", "at most 2047 tokens"),
    (completion(prompt="\ud800"), 400, "prompt", "must be valid Unicode"),
    (completion(prompt=5), 400, "prompt", "must be a string"),
    (chat(stop="\ud800"), 400, "stop", "must be valid Unicode"),
    (message(content="a\ud800"), 400, "messages.0.content", "surrogate pair at character 1"),
    (completion(max_tokens=0), 400, "max_tokens", "at least 1 without echo, got 0"),
    (completion(max_tokens=-1, echo=True), 400, "max_tokens", "greater than or equal to 0, got -1"),
    (completion(logprobs=True), 400, "logprobs", "valid integer, got True"),
    (completion(logprobs=21), 400, "logprobs", "less than or equal to 20, got 21"),
    (completion(suffix="x"), 400, "suffix", "not supported"),
    (completion(top_logprobs=1), 400, "top_logprobs", "unknown field"),
    (completion(messages=[]), 400, "messages", "unknown field"),
]


@pytest.mark.parametrize(("request_", "status", "param", "words"), BAD, ids=range(len(BAD)))
def test_refused_in_openais_shape(server, request_, status, param, words):
    method, path, body = request_
    headers = {"Content-Type": "application/json"}
    response = httpx.request(
        method, server.url + path, content=body, headers=headers if body else {}, timeout=PATIENCE, trust_env=False
    )
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) < 500
    if param is not None:
        assert error["param"] == param


def test_other_content_types_are_refused(server):
    for headers in ({"Content-Type": "text/plain"}, {}):
        response = httpx.post(
            f"{server.url}/v1/completions",
            content=json.dumps(COMPLETION).encode(),
            headers=headers,
            trust_env=False,
            timeout=PATIENCE,
        )
        assert response.status_code == 400
        assert "Content-Type: application/json" in response.json()["error"]["message"]


def test_too_large_a_body_is_413(server):
    def chunks():
        for _ in range(20):
            yield b" " * 2**20

    for content in (b" " * (20 * 2**20), chunks()):
        response = httpx.post(
            f"{server.url}/v1/completions",
            content=content,
            headers={"Content-Type": "application/json"},
            timeout=PATIENCE,
            trust_env=False,
        )
        assert response.status_code == 413
        assert "at most 16777216 bytes" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("field", "asked", "words"),
    [
        ("response_format.json_schema.schema", {"type": 5}, "does not compile"),
        ("guided_json", {"type": "nothing"}, ""),
        ("guided_regex", "(", "does not compile"),
        ("guided_grammar", "start: nowhere", ""),
        ("structured_outputs.grammar", "root ::= (", ""),
    ],
)
def test_a_form_that_does_not_compile_is_the_clients_fault(real, field, asked, words):
    if field.startswith("response_format"):
        changes = {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": asked}}}
    elif field.startswith("structured_outputs"):
        changes = {"structured_outputs": {"grammar": asked}}
    else:
        changes = {field: asked}
    for stream in (False, True):
        response = httpx.post(
            f"{real.url}/v1/completions",
            json={**COMPLETION, **changes, "stream": stream},
            timeout=PATIENCE,
            trust_env=False,
        )
        assert response.status_code == 400, response.text
        error = response.json()["error"]
        assert error["param"] == field
        assert error["message"].startswith(f"{field} ")
        assert words in error["message"]
        assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("field", "asked"),
    [("logit_bias", {"49152": 1}), ("allowed_token_ids", [49152]), ("stop_token_ids", [49152])],
)
def test_tokens_beyond_the_vocabulary_are_refused(real, field, asked):
    response = httpx.post(
        f"{real.url}/v1/completions", json={**COMPLETION, field: asked}, timeout=PATIENCE, trust_env=False
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
    assert "below the vocabulary's size (49152), got 49152" in response.json()["error"]["message"]


def test_the_engine_lives_on(server):
    before = server.metric("octavo_requests_total", status="rejected")
    assert (
        httpx.post(
            f"{server.url}/v1/completions", json={**COMPLETION, "n": 99}, trust_env=False, timeout=PATIENCE
        ).status_code
        == 400
    )
    assert server.metric("octavo_requests_total", status="rejected") == before + 1
    answer = httpx.post(f"{server.url}/v1/completions", json=COMPLETION, timeout=PATIENCE, trust_env=False)
    assert answer.status_code == 200
    assert server.process.poll() is None
    assert server.metric("octavo_requests_running") == 0
