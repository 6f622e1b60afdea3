"""Log lines and request ids, as an operator of the server sees them."""

import json
import re

import httpx
import pytest
from patience import PATIENCE, eventually

BODY = {"model": "smollm2", "prompt": "hi", "max_tokens": 3}


def client(server, **options) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False, **options)


def line_about(server, request_id: str) -> str:
    """The access line of a request; it is written once the answer is sent."""
    found = eventually(
        lambda: [line for line in server.log if request_id in line and "duration" in line],
        lambda: f"a line about {request_id} in {server.log}",
    )
    assert len(found) == 1
    return found[0]


def test_json_lines(start_scripted):
    key = "k" * 40
    server = start_scripted("--log-format", "json", "--log-prompts", "--api-key", f"alice={key}")
    server.wait_ready()
    prompt = "I am bob@example.com, my card is 4111 1111 1111 1111\nand my key sk-abcdefghijklmnopqrst"
    with client(server, headers={"authorization": f"Bearer {key}"}) as http:
        for stream in (False, True):
            name = f"stream-{stream}"
            response = http.post("/v1/completions", json={**BODY, "stream": stream}, headers={"x-request-id": name})
            assert response.headers["x-request-id"] == name
            line = json.loads(line_about(server, name))
            assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
            assert 0 < line.pop("duration") < PATIENCE
            assert line == {
                "level": "info",
                "logger": "octavo_runtime.server.observe.request_log",
                "message": "request",
                "request_id": name,
                "method": "POST",
                "path": "/v1/completions",
                "status": 200,
                "key": "alice",
                "model": "smollm2",
                "prompt_tokens": 1,
                "completion_tokens": 3,
                "finish_reason": "length",
            }
        http.post("/v1/completions", json={**BODY, "prompt": prompt}, headers={"x-request-id": "prompted"})
        http.get("/a%0Ab%1b%5b31m", headers={"x-request-id": "odd"})
    assert json.loads(line_about(server, "odd"))["path"] == "/a\nb\x1b[31m"
    lines = [json.loads(line) for line in server.log]  # each is an object
    [shown] = [line["prompt"] for line in lines if line.get("request_id") == "prompted" and "prompt" in line]
    assert shown == "I am [e-mail], my card is [card]\nand my key [key]"
    assert key not in "".join(server.log)


def test_prompts_are_not_logged_by_default(scripted):
    with client(scripted, headers={"x-request-id": "unlogged"}) as http:
        http.post("/v1/completions", json={**BODY, "prompt": "a secret word"})
    line_about(scripted, "unlogged")
    assert "secret word" not in "".join(scripted.log)


def test_a_console_line_tells_about_a_request(scripted):
    with client(scripted, headers={"x-request-id": "console-1"}) as http:
        http.post("/v1/completions", json={**BODY, "n": 2})
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} octavo: request method=POST path=/v1/completions status=200 duration=[0-9.e-]+ "
        r"model=smollm2 prompt_tokens=1 completion_tokens=6 finish_reason=length request_id=console-1\n",
        line_about(scripted, "console-1"),
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models", 200),
        ("GET", "/nothing", 404),
        ("GET", "/v1/completions", 405),
        ("POST", "/v1/completions", 400),
        ("GET", "/metrics", 200),
        ("GET", "/health/ready", 200),
    ],
)
def test_every_response_names_its_request(scripted, method, path, status):
    with client(scripted) as http:
        first, second = (http.request(method, path) for _ in range(2))
        named = http.request(method, path, headers={"x-request-id": "Mine_1.a-b"})
    assert (first.status_code, named.status_code) == (status, status)
    assert re.fullmatch(r"[0-9a-f]{32}", first.headers["x-request-id"])
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert named.headers.get_list("x-request-id") == ["Mine_1.a-b"]


@pytest.mark.parametrize("given", ["", "a" * 129, "a b", "a/b", "a\tb", "ä", "a;b=1", 'a"b', "{}"])
def test_an_odd_request_id_is_replaced(scripted, given):
    with client(scripted) as http:
        response = http.get("/v1/models", headers={"x-request-id": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_errors_within_a_stream_carry_the_id_too(scripted):
    with client(scripted, headers={"x-request-id": "broken-1"}) as http:
        response = http.post(
            "/v1/completions", json={**BODY, "prompt": "[error deadline]", "max_tokens": 9, "stream": True}
        )
    assert response.headers["x-request-id"] == "broken-1"
    assert " status=200 " in line_about(scripted, "broken-1")
    assert "finish_reason=error" in line_about(scripted, "broken-1")


def test_nothing_that_a_client_sends_forges_a_line_or_moves_the_cursor(scripted):
    with client(scripted) as http:
        response = http.get("/v1/models/x%0d%0a12:00:00.000%20octavo:%20forged%1b%5b2J%e2%80%a8")
        http.post(
            "/v1/completions", content=b'{"model": "a\\nb\\u001b[2J"}', headers={"content-type": "application/json"}
        )
    line = line_about(scripted, response.headers["x-request-id"])
    assert "forged" in line
    assert line.rstrip("\n").isprintable()
    assert all(line.rstrip("\n").isprintable() for line in scripted.log)
    assert not any(line.startswith("12:00:00.000 octavo: forged") for line in scripted.log)


def test_health_checks_and_scrapes_are_quiet(scripted):
    with client(scripted) as http:
        ids = [http.get(path).headers["x-request-id"] for path in ("/health/live", "/health", "/metrics", "/v1/models")]
    line_about(scripted, ids[-1])
    assert not any(name in line for name in ids[:-1] for line in scripted.log)


def test_debug_shows_health_checks_and_no_access_log_shows_nothing(start_scripted):
    loud, quiet = start_scripted("--log-level", "debug"), start_scripted("--no-access-log")
    for server in (loud, quiet):
        server.wait_ready()
        with client(server, headers={"x-request-id": "probe"}) as http:
            http.get("/health/live")
    line_about(loud, "probe")
    assert not any("probe" in line for line in quiet.log)
