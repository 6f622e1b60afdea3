"""Limits of a key as its user meets them: 429, how long to wait, and what is left."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import openai
import pytest
from event_reader import read
from patience import PATIENCE, eventually

pytestmark = pytest.mark.slow

ALICE, BOB, CAROL = "alice-key-0123456789", "bob-key-0123456789ab", "carol-key-0123456789"
COMPLETION = {"model": "smollm2", "prompt": "hi", "max_tokens": 4}
SLOW = {"model": "smollm2", "prompt": "[slow]", "max_tokens": 1500, "ignore_eos": True, "stream": True}
FILE = f"""
alice = "{ALICE}"

[bob]
key = "{BOB}"
requests_per_minute = 1000
tokens_per_minute = 12

[carol]
key = "{CAROL}"
requests_per_minute = 1000
max_concurrent_requests = 2
"""


@pytest.fixture(scope="module")
def limited(scripted_servers, tmp_path_factory):
    """A server with three requests a minute, but for two of three keys."""
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(FILE)
    server = scripted_servers("--api-key-file", str(file), "--requests-per-minute", "3")
    server.wait_ready()
    return server


def client(server, key: str = "") -> httpx.Client:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=PATIENCE)


def left(response: httpx.Response, kind: str) -> tuple[int, int, int]:
    limit, remaining, reset = (
        response.headers[f"x-ratelimit-{what}-{kind}"] for what in ("limit", "remaining", "reset")
    )
    assert reset.endswith("s")
    return int(limit), int(remaining), int(reset[:-1])


def test_requests_a_minute(limited):
    with client(limited, ALICE) as http:
        for remaining in (2, 1, 0):
            response = http.post("/v1/completions", json={**COMPLETION, "stream": remaining == 1})
            assert response.status_code == 200
            limit, got, reset = left(response, "requests")
            assert (limit, got) == (3, remaining)
            assert 0 < reset <= 60
            assert "x-ratelimit-limit-tokens" not in response.headers
        refused = http.post("/v1/completions", json=COMPLETION)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 20
        assert left(refused, "requests")[:2] == (3, 0)
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert error["message"].startswith("requests_per_minute: this server allows 3 requests a minute")
        told = http.post("/v1/messages", json={}).json()
        assert (told["type"], told["error"]["type"]) == ("error", "rate_limit_error")
        models = http.get("/v1/models")
        assert models.status_code == 200, "only POST requests count"
        assert left(models, "requests")[:2] == (3, 0)
    with client(limited, BOB) as http:
        assert http.post("/v1/completions", json=COMPLETION).status_code == 200, "another key's limit is its own"
    sdk = openai.OpenAI(
        base_url=f"{limited.url}/v1",
        api_key=ALICE,
        http_client=httpx.Client(trust_env=False),
        max_retries=0,
    )
    with pytest.raises(openai.RateLimitError):
        sdk.completions.create(**COMPLETION)
    assert limited.metric("octavo_key_requests_total", key="alice", status="200") == 3
    assert limited.metric("octavo_key_requests_total", key="alice", status="429") == 3


def test_tokens_a_minute(start_scripted):
    server = start_scripted("--tokens-per-minute", "12")
    server.wait_ready()
    with client(server) as http:
        first = http.post("/v1/completions", json=COMPLETION)
        assert first.status_code == 200
        assert left(first, "tokens")[:2] == (12, 7), "a prompt of 1 token and 4 generated"
        over = http.post("/v1/completions", json={**COMPLETION, "max_tokens": 20})
        assert over.status_code == 200, "a request may overdraw"
        assert left(over, "tokens")[1] == 0
        refused = http.post("/v1/completions", json=COMPLETION)
        assert refused.status_code == 429
        assert refused.json()["error"]["message"].startswith("tokens_per_minute: this server allows 12 tokens a minute")
        assert 60 < int(refused.headers["Retry-After"]) <= 80, "14 tokens of debt and one more, at 12 a minute"
        assert http.get("/health").status_code == 200
    assert server.metric("octavo_key_tokens_total", key="anonymous", kind="prompt") == 2
    assert server.metric("octavo_key_tokens_total", key="anonymous", kind="generation") == 24


def test_requests_at_a_time(limited):
    with client(limited, CAROL) as http, ThreadPoolExecutor(4) as pool:
        with stream(http) as one, stream(http):
            events = read(one.iter_lines())
            next(events)
            refused = list(pool.map(lambda _: http.post("/v1/completions", json=COMPLETION), range(4)))
            assert {response.status_code for response in refused} == {429}
            assert refused[0].json()["error"]["message"].startswith("max_concurrent_requests: this server allows 2")
            assert refused[0].headers["Retry-After"] == "1"
        with stream(http), stream(http):
            pass


def test_a_place_is_free_again_however_a_request_ends(limited):
    """Two places: whatever leaves one taken for ever shows in the third request at the latest."""
    with client(limited, CAROL) as http:
        eventually(lambda: http.post("/v1/completions", json={"broken": 1}).status_code == 400, "a place is free")
        for body in ({"broken": 1}, {**COMPLETION, "n": 99}, {**COMPLETION, "prompt": "[refuse overloaded]"},
                     {**COMPLETION, "prompt": "[error deadline]"}):  # fmt: skip
            for _ in range(3):
                assert http.post("/v1/completions", json=body).status_code != 200
        for _ in range(3):
            assert http.post("/v1/nothing", json={}).status_code == 404
            assert http.post("/v1/completions", content=b"[" * 100_000).status_code == 400
        address = limited.url.removeprefix("http://").split(":")
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        head += f"x-api-key: {CAROL}\r\n\r\n".encode()
        for _ in range(3):
            with socket.create_connection(address) as connection:
                connection.sendall(head + b"{")
                time.sleep(0.1)  # it takes its place meanwhile
        for _ in range(3):
            with stream(http) as response:
                next(read(response.iter_lines()))
        with stream(http), stream(http):
            pass


def stream(http: httpx.Client) -> closing[httpx.Response]:
    """An answer under way, as soon as there is a place for it: the server has to see that those before are gone."""

    def ask() -> httpx.Response | None:
        response = http.send(http.build_request("POST", "/v1/completions", json=SLOW), stream=True)
        if response.status_code == 200:
            return response
        response.close()
        return None

    return closing(eventually(ask, "a place is free"))
