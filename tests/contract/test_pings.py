"""A stream is never silent for long: what comes before the first token, and what clients make of it."""

import anthropic
import httpx
import openai
import pytest
from patience import PATIENCE
from scripted_engine import ANSWER

WAITS = [{"role": "user", "content": "[wait] What is the capital of France?"}]
BODIES = {
    "/v1/chat/completions": {"messages": WAITS},
    "/v1/completions": {"prompt": WAITS[0]["content"], "max_tokens": 100},
    "/v1/responses": {"input": WAITS},
    "/v1/messages": {"messages": WAITS, "max_tokens": 100},
}


@pytest.fixture(scope="module")
def pinging(scripted_servers):
    server = scripted_servers("--ping-interval", "50ms")
    server.wait_ready()
    return server


def stream(server, path, **body):
    body = {"model": "smollm2", "stream": True} | BODIES[path] | body
    return httpx.post(f"{server.url}{path}", json=body, trust_env=False, timeout=PATIENCE)


@pytest.mark.parametrize("path", BODIES)
def test_a_ping_comes_before_the_first_token_and_the_answer_is_whole(pinging, path):
    events = stream(pinging, path).text.split("\n\n")
    ping = 'event: ping\ndata: {"type":"ping"}' if path == "/v1/messages" else ": ping"
    assert events[0] == ping
    said = [event for event in events if event != ping]
    assert any("France" in event for event in said)
    assert not any('"error":{' in event for event in said)


@pytest.fixture(scope="module")
def silent(scripted_servers):
    server = scripted_servers("--ping-interval", "0s")
    server.wait_ready()
    return server


@pytest.mark.parametrize("path", BODIES)
def test_without_an_interval_there_are_none(silent, path):
    assert stream(silent, path).text.startswith(("data: ", "event: response.created", "event: message_start"))


@pytest.mark.parametrize("path", BODIES)
def test_what_fails_after_a_ping_is_an_event(pinging, path):
    failing = "[wait] [refuse overloaded]"
    body = {key: failing if key == "prompt" else [{"role": "user", "content": failing}] for key in BODIES[path]}
    body.pop("max_tokens", None)
    response = stream(pinging, path, **body)
    assert response.status_code == 200
    assert "at most 1 requests may wait" in response.text.split("\n\n")[-2]


def test_openais_client_passes_pings_over(pinging):
    with openai.OpenAI(
        base_url=f"{pinging.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    ) as client:
        chunks = client.chat.completions.create(model="smollm2", messages=WAITS, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
        with client.responses.stream(model="smollm2", input=WAITS) as events:
            assert events.get_final_response().output_text == ANSWER


def test_anthropics_client_passes_pings_over(pinging, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = anthropic.Anthropic(base_url=pinging.url, api_key="none", max_retries=0)
    with client, client.messages.stream(model="smollm2", max_tokens=100, messages=WAITS) as stream:
        assert stream.get_final_text() == ANSWER
