"""POST /v1/embeddings over HTTP: OpenAI's shape, the official SDK, bad requests, and clients that go away."""

import base64
import json
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from event_reader import read
from patience import PATIENCE, eventually

pytestmark = pytest.mark.slow

ASKED = {"model": "smollm2", "input": "The cat sat on the mat."}
REAL_WIDTH, SCRIPTED_WIDTH = 576, 8


def post(server, **changes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/embeddings", json={**ASKED, **changes}, timeout=PATIENCE, trust_env=False)


def vectors(server, **changes) -> np.ndarray:
    response = post(server, **changes)
    assert response.status_code == 200, response.text
    return np.array([one["embedding"] for one in response.json()["data"]])


def test_openais_shape(server):
    answer = post(server, input=["one", "one two three"], user="somebody").json()
    assert set(answer) == {"object", "data", "model", "usage"}
    assert (answer["object"], answer["model"]) == ("list", "smollm2")
    assert [(one["object"], one["index"]) for one in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    for one in answer["data"]:
        assert np.linalg.norm(one["embedding"]) == pytest.approx(1.0, abs=1e-5)


def test_base64_holds_the_same_numbers(server):
    [numbers] = vectors(server)
    [coded] = post(server, encoding_format="base64").json()["data"]
    raw = base64.b64decode(coded["embedding"])
    assert struct.unpack(f"<{len(numbers)}f", raw) == pytest.approx(numbers, abs=1e-6)


@pytest.mark.parametrize("encoding", [openai.NOT_GIVEN, "float", "base64"])
def test_the_openai_sdk(server, encoding):
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        answer = client.embeddings.create(model="smollm2", input=["a", "b"], encoding_format=encoding)
    assert len(answer.data) == 2
    assert answer.usage.prompt_tokens == 2
    found = answer.data[0].embedding
    if encoding == "base64":
        found = np.frombuffer(base64.b64decode(found), "<f4")
    assert found == pytest.approx(vectors(server, input="a")[0], abs=1e-5)


def test_text_and_tokens_alone_and_in_lists(real):
    text = ASKED["input"]
    body = {"model": "smollm2", "prompt": text, "max_tokens": 1, "return_token_ids": True}
    answer = httpx.post(f"{real.url}/v1/completions", json=body, timeout=PATIENCE, trust_env=False).json()
    tokens = answer["choices"][0]["prompt_token_ids"]
    [expected] = vectors(real)
    assert len(expected) == REAL_WIDTH
    for same in ([text], tokens, [tokens], [tokens, tokens]):
        for found in vectors(real, input=same):
            assert found == pytest.approx(expected, abs=1e-4)
    cut = vectors(real, input=tokens[-3:])
    assert vectors(real, truncate_prompt_tokens=3) == pytest.approx(cut, abs=1e-4)


def test_pooling_and_normalize(real):
    kinds = {
        (pooling, normalize): vectors(real, pooling=pooling, normalize=normalize)[0]
        for pooling in ("mean", "last")
        for normalize in (True, False)
    }
    for pooling in ("mean", "last"):
        plain, unit = kinds[pooling, False], kinds[pooling, True]
        assert np.linalg.norm(plain) > 1.5
        assert plain / np.linalg.norm(plain) == pytest.approx(unit, abs=1e-5)
    assert vectors(real)[0] == pytest.approx(kinds["mean", True], abs=1e-5)
    assert kinds["mean", True] @ kinds["last", True] < 0.99


def test_like_texts_lie_close(real):
    cat, kitten, rates = vectors(
        real, input=["The cat sat on the mat.", "A kitten lay on the rug.", "Interest rates rose by half a point."]
    )
    assert cat @ kitten > cat @ rates


def test_a_prompt_may_fill_the_models_length(real):
    assert vectors(real, input=[5] * 2100, truncate_prompt_tokens=2048).shape == (1, REAL_WIDTH)


def test_many_inputs_beside_a_stream(real):
    """Each in its place, and the stream goes on meanwhile."""
    inputs = [[token] * (1 + token % 7) for token in range(100, 250)]
    body = {"model": "smollm2", "prompt": "Once", "max_tokens": 40, "ignore_eos": True, "stream": True}
    with ThreadPoolExecutor(1) as pool, httpx.Client(trust_env=False, timeout=PATIENCE) as http:
        with http.stream("POST", f"{real.url}/v1/completions", json=body) as stream:
            events = read(stream.iter_lines())
            next(events)
            embedding = pool.submit(vectors, real, input=inputs)
            assert list(events)[-1].data == "[DONE]"
        found = embedding.result()
    assert len(found) == len(inputs)
    for place in (0, 70, 149):
        assert found[place] == pytest.approx(vectors(real, input=inputs[place])[0], abs=1e-4)
    eventually(lambda: real.metric("octavo_kv_cache_usage_ratio") == 0)


def test_as_many_inputs_as_may_be(scripted):
    assert vectors(scripted, input=["a"] * 2048).shape == (2048, SCRIPTED_WIDTH)


BAD = [
    ({"input": ""}, "input", "at least one token"),
    ({"input": []}, "input", "must be a string, a list of strings"),
    ({"input": ["a", 1]}, "input", "must be a string, a list of strings"),
    ({"input": ["a", ""]}, "input.1", "input.1: must have at least one token"),
    ({"input": [[]]}, "input", "none empty"),
    ({"input": None}, "input", "required"),
    ({"input": {"a": 1}}, "input", "got {'a': 1}"),
    ({"input": ["a"] * 2049}, "input", "at most 2048 prompts, these are 2049"),
    ({"input": [49152]}, "input", "from 0 to 49151, got 49152"),
    ({"input": [[1], [-1]]}, "input.1", "from 0 to 49151, got -1"),
    ({"input": [1] * 2049}, "input", "at most 2048 tokens, got 2049"),
    ({"input": [1] * 2049, "truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "must be at least 1, or -1"),
    ({"model": "gpt"}, "model", "there is: smollm2"),
    ({"encoding_format": "int8"}, "encoding_format", "'base64', got 'int8'"),
    ({"dimensions": 5}, "dimensions", "the width of the model, or left out, got 5"),
    ({"dimensions": "8"}, "dimensions", "valid integer, got '8'"),
    ({"dimensions": True}, "dimensions", "valid integer, got True"),
    ({"pooling": "best"}, "pooling", "got 'best'"),
    ({"normalize": "yes"}, "normalize", "valid boolean, got 'yes'"),
    ({"priority": 2**31}, "priority", "less than or equal to 2147483647, got 2147483648"),
    ({"cache_salt": ""}, "cache_salt", "at least 1 character"),
    ({"user": 5}, "user", "valid string, got 5"),
    ({"temperature": 1}, "temperature", "unknown field"),
]


def body_of(changes: dict) -> str:
    return json.dumps({**ASKED, **changes})


@pytest.mark.parametrize(("changes", "param", "words"), BAD, ids=range(len(BAD)))
def test_bad_requests_are_named(server, changes, param, words):
    response = post(server, **changes)
    assert response.status_code == (404 if param == "model" else 400), response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert words in error["message"]
    assert "\n" not in error["message"]


def test_half_a_surrogate_is_named(scripted):
    response = httpx.post(
        f"{scripted.url}/v1/embeddings", content='{"model": "smollm2", "input": ["a", "\\ud800"]}',
        headers={"Content-Type": "application/json"}, trust_env=False, timeout=PATIENCE,
    )  # fmt: skip
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input"
    assert "valid Unicode" in response.json()["error"]["message"]


def test_the_models_own_width_is_no_shortening(server):
    width = vectors(server).shape[1]
    assert width in (REAL_WIDTH, SCRIPTED_WIDTH)
    assert vectors(server, dimensions=width).shape == (1, width)


@pytest.mark.parametrize(
    ("kind", "status", "code", "outcome"),
    [
        ("overloaded", 429, "overloaded", "error"),
        ("queue_timeout", 503, "queue_timeout", "error"),
        ("deadline", 504, "deadline_exceeded", "error"),
        ("invalid", 400, None, "rejected"),
    ],
)
def test_what_the_engine_refuses_is_an_http_status(scripted, kind, status, code, outcome):
    before = scripted.metric("octavo_requests_total", status=outcome)
    response = post(scripted, input=["fine", f"[refuse {kind}]"])
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert ("Retry-After" in response.headers) == (status in (429, 503))
    assert scripted.metric("octavo_requests_total", status=outcome) == before + 1
    assert scripted.metric("octavo_requests_running") == 0


def test_the_engines_death_is_a_500(start_scripted):
    server = start_scripted()
    server.wait_ready()
    response = post(server, input=["[slow]", "[die]"])
    assert response.status_code == 500
    assert response.json()["error"]["message"] == "the script says that the engine died"
    assert server.process.wait(PATIENCE) == 1


def test_requests_are_counted(server):
    names = (
        "octavo_prompt_tokens_total",
        "octavo_generation_tokens_total",
        "octavo_time_to_first_token_seconds_count",
        "octavo_request_duration_seconds_count",
    )
    before = [server.metric(name) for name in names]
    ended = server.metric("octavo_request_success_total", finished_reason="stop")
    succeeded = server.metric("octavo_requests_total", status="success")
    assert post(server, input=["one", "one two"]).status_code == 200
    after = [server.metric(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 0, 0, 2]
    assert server.metric("octavo_request_success_total", finished_reason="stop") == ended + 2
    assert server.metric("octavo_requests_total", status="success") == succeeded + 2


@pytest.mark.parametrize("inputs", [1, 100])
def test_a_client_that_goes_away_frees_its_requests(server, inputs):
    # Long enough for the real engine, and a word to wait for the scripted one.
    texts = ["[slow]" + " word" * 2000] * inputs
    content = json.dumps({**ASKED, "input": texts}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
    aborted = server.metric("octavo_requests_total", status="aborted")
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as connection:
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + content)
        eventually(lambda: server.metric("octavo_requests_running") > 0)
    eventually(lambda: server.metric("octavo_requests_running") == server.metric("octavo_requests_waiting") == 0)
    eventually(lambda: server.metric("octavo_kv_cache_usage_ratio") == 0)
    eventually(lambda: server.metric("octavo_requests_total", status="aborted") > aborted)
    assert post(server).status_code == 200
