"""What a hostile client cannot make a server do: wait, grow, or answer with more than it was asked for."""

import contextlib
import itertools
import json
import socket
import threading
import time

import httpx
import psutil
import pytest
from event_reader import read
from patience import PATIENCE, eventually

pytestmark = pytest.mark.slow

COMPLETION = {"model": "smollm2", "prompt": "hi", "max_tokens": 2}
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@pytest.fixture(scope="module")
def strict(scripted_servers):
    """A server that waits for nobody, with few connections and small bodies, and one web page that may call it."""
    server = scripted_servers(
        "--client-timeout", "1s", "--max-connections", "12", "--max-body", "64Ki", "--cors-origin", "https://chat.example"
    )  # fmt: skip
    server.wait_ready()
    return server


def connect(server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(PATIENCE)
    return connection


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            got += piece
    return got


def error(raw: bytes, status: int) -> dict:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), raw[:200]
    assert b"connection: close" in head.lower()
    assert b"x-content-type-options: nosniff" in head
    return json.loads(body)["error"]


def trickle(connection: socket.socket, data: bytes) -> None:
    """Sends a byte at a time, over and over, until the server has enough of it."""

    def send() -> None:
        with contextlib.suppress(OSError):
            for byte in itertools.cycle(data):
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

    threading.Thread(target=send, daemon=True).start()


def lives(server) -> None:
    response = httpx.post(f"{server.url}/v1/completions", json=COMPLETION, timeout=PATIENCE, trust_env=False)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("begin", "slowly", "words"),
    [
        (b"", b"", None),
        (b"", HEAD, "the request's head must arrive within 1 s"),
        (b"\r\n", b"\r\n" * 50, "the request's head must arrive within 1 s"),
        (HEAD, b"x-a: " + b"b" * 90, "the request's head must arrive within 1 s"),
        (HEAD + b"Content-Length: 100\r\n\r\n", b"", "the body must arrive within 1 s, and 0 bytes did"),
        (HEAD + b"Content-Length: 100\r\n\r\n{", b" " * 90, "the body must arrive within 1 s"),
        (CHUNKED, b"1\r\na\r\n" * 30, "the body must arrive within 1 s"),
        (CHUNKED + b"1\r\na\r\n0\r\nx-a: ", b"b" * 90, "the body must arrive within 1 s, and 1 bytes did"),
    ],
    ids=range(8),
)
def test_a_client_that_trickles_is_cut(strict, begin, slowly, words):
    began = time.monotonic()
    with connect(strict) as connection:
        connection.sendall(begin)
        trickle(connection, slowly)
        got = answer(connection)
        assert time.monotonic() - began > 0.8
    if words is None:
        assert got == b"", "who never asked is told nothing"
    else:
        told = error(got, 408)
        assert words in told["message"]
        assert told["code"] == "request_timeout"


def test_the_clock_is_no_trouble_to_slow_answers(strict):
    """A second on the connection is long over when the answer ends, and when the next request comes."""
    body = {"model": "smollm2", "prompt": "[slow]", "max_tokens": 75}
    with httpx.Client(base_url=strict.url, trust_env=False, timeout=PATIENCE) as http:
        assert http.post("/v1/completions", json=body).elapsed.total_seconds() > 1.2
        time.sleep(1.5)
        with http.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
            assert list(read(response.iter_lines()))[-1].data == "[DONE]"


def test_an_answer_that_nobody_reads_is_given_up(strict):
    aborted = strict.metric("octavo_requests_total", status="aborted")
    body = {"model": "smollm2", "prompt": "hi", "stream": True, "n": 64, "logprobs": 20, "max_tokens": 1500}
    content = json.dumps(body | {"ignore_eos": True, "prompt": "[slow]"}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = strict.url.removeprefix("http://").split(":")
        connection.connect((host, int(port)))
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        eventually(lambda: strict.metric("octavo_requests_total", status="aborted") > aborted, "it is given up")


@pytest.mark.parametrize(
    ("begin", "piece", "words"),
    [
        (b"GET /", b"a" * 65536, "at most 65536 bytes"),
        (b"GET / HTTP/1.1\r\nx-a: ", b"a" * 65536, "at most 65536 bytes"),
        (b"GET / HTTP/1.1\r\n", b"x-a: b\r\n" * 8192, "at most 65536 bytes"),
        (b"GET / HTTP/1.1\r\n" + b"x-a: b\r\n" * 101 + b"\r\n", b"", "at most 100 headers, got 101"),
        (
            b"GET / HTTP/1.1\r\nx-a: " + b"b" * 65000 + b"\r\nx-b: " + b"b" * 600 + b"\r\n\r\n",
            b"",
            "at most 65536 bytes",
        ),
        (CHUNKED + b"1;x=", b"a" * 65536, "at most 65536 bytes"),
        (CHUNKED + b"1\r\na\r\n0\r\nx-a: ", b"a" * 65536, "at most 65536 bytes"),
        (CHUNKED + b"1\r\na\r\n0\r\n", b"x-a: b\r\n" * 8192, "at most 65536 bytes"),
    ],
    ids=range(8),
)
def test_a_head_has_an_end(strict, begin, piece, words):
    with connect(strict) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(begin)
            for _ in range(200 if piece else 0):
                connection.sendall(piece)
        # What was still under way when the server closed may have reset the connection before its answer was read.
        if got := answer(connection):
            told = error(got, 431)
            assert words in told["message"]
            assert told["code"] == "request_header_fields_too_large"
        else:
            assert piece
    lives(strict)


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        HEAD + b"Content-Length: +2\r\n\r\n{}",
        HEAD + b"Content-Length: 0x2\r\n\r\n{}",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}",
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"x-a: b\r\n continued\r\n\r\n",
        HEAD + b"x-a: b\x00c\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\nHost: localhost\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=range(12),
)
def test_what_two_readers_could_read_differently_is_no_request(strict, request_):
    """Each of these lets one request hide in another, where a proxy in front reads it differently."""
    with connect(strict) as connection:
        connection.sendall(request_ + b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = answer(connection)
    assert b"version" not in got
    assert error(got, 400)["message"] == "this is not a valid HTTP/1.1 request"


def test_connections_beyond_the_bound_are_turned_away(strict):
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(connect(strict))
        with connect(strict) as late:
            told = error(answer(late), 503)
            assert told["message"] == "all 12 connections are taken"

    def let_in() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{strict.url}/health", trust_env=False, timeout=PATIENCE).is_success
        return False

    eventually(let_in, "there is room again")


def test_a_body_has_an_end(strict):
    def chunks():
        for _ in range(1000):
            yield b" " * 1024

    for content in (b" " * (64 * 1024 + 1), chunks()):
        response = httpx.post(f"{strict.url}/v1/completions", content=content, timeout=PATIENCE, trust_env=False)
        assert response.status_code == 413
        assert "the body must have at most 65536 bytes, got " in response.json()["error"]["message"]
    fits = json.dumps(COMPLETION).encode().ljust(64 * 1024)
    headers = {"Content-Type": "application/json"}
    assert httpx.post(
        f"{strict.url}/v1/completions", content=fits, headers=headers, trust_env=False, timeout=PATIENCE
    ).is_success


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"[" * 10_000_000, "lists and objects, got 10000000"),
        (b'{"messages":' + b"[" * 129 + b"]" * 129 + b"}", "nest at most 128"),
        (b"{" + b",".join(b'"k%07d":1' % i for i in range(1_000_000)) + b"}", "strings, names of fields included"),
        (b'{"prompt":[' + b"1," * 5_000_000 + b"1]}", "at most 1048576 values, got 5000000"),
        (b'{"prompt":"' + b"a" * 9_000_000 + b'"}', "no string of more than 8388608 bytes"),
        (json.dumps(COMPLETION).encode("utf-16"), "must be JSON in UTF-8"),
    ],
    ids=["deep", "nested", "fields", "numbers", "string", "utf-16"],
)
def test_a_costly_document_is_refused_before_it_costs(scripted, document, words):
    headers = {"Content-Type": "application/json"}
    process = psutil.Process(scripted.process.pid)
    for path in ("/v1/completions", "/v1/chat/completions", "/v1/messages", "/nothing"):
        spent = sum(process.cpu_times()[:2])
        response = httpx.post(scripted.url + path, content=document, headers=headers, timeout=PATIENCE, trust_env=False)
        assert response.status_code == 400
        assert words in response.json()["error"]["message"]
        assert sum(process.cpu_times()[:2]) - spent < 2, "some 0.05 s of a processor"
    lives(scripted)


@pytest.mark.parametrize(
    "field", ["n", "best_of", "logprobs", "prompt_logprobs", "priority", "min_tokens", "seed", "top_k"]
)
@pytest.mark.parametrize("value", ["1e400", "10" * 2000, "-" + "9" * 4000, "NaN", '"64"', "[]", "1" * 50_000])
def test_numbers_without_bound_are_refused(scripted, field, value):
    content = f'{{"model": "smollm2", "prompt": "hi", "max_tokens": 1, "{field}": {value}}}'
    headers = {"Content-Type": "application/json"}
    response = httpx.post(
        f"{scripted.url}/v1/completions", content=content, headers=headers, timeout=PATIENCE, trust_env=False
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] in (field, None)
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fetc%2fpasswd",
        "../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%5c..%5cx",
        "smollm2%00",
        "a" * 5000,
        "%0d%0aSet-Cookie:%20a=b",
        "file:%2f%2f%2fetc%2fpasswd",
    ],
)
def test_names_of_models_lead_nowhere(scripted, name):
    with connect(scripted) as connection:
        connection.sendall(f"GET /v1/models/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        got = answer(connection)
    told = error(got, 404)
    assert told["code"] == "model_not_found" or told["message"].startswith("no such endpoint: GET /v1/models/")
    assert len(told["message"]) < 300
    assert told["message"].isprintable()
    assert b"root:" not in got
    assert b"\r\nSet-Cookie" not in got
    body = {**COMPLETION, "model": httpx.URL(f"http://a/{name}").path[1:]}
    response = httpx.post(f"{scripted.url}/v1/completions", json=body, trust_env=False, timeout=PATIENCE)
    assert response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    "path", ["/ui/../app.js", "/ui/..%2f..%2fapp.py", "/ui/%2e%2e/page.py", "/ui//etc/passwd", "/ui/"]
)
def test_names_of_files_lead_nowhere(scripted, path):
    with connect(scripted) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer(connection).startswith(b"HTTP/1.1 404 ")


def test_security_headers_are_on_every_answer(scripted):
    with httpx.Client(base_url=scripted.url, trust_env=False, timeout=PATIENCE) as http:
        answers = [
            http.get("/health"),
            http.get("/nothing"),
            http.get("/v1/chat/completions"),
            http.post("/v1/completions", json={}),
            http.post("/v1/completions", json=COMPLETION),
        ]
        for response in answers:
            assert {name: response.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            assert "Server" not in response.headers
            assert "Access-Control-Allow-Origin" not in response.headers
        for response in (http.get("/"), http.post("/v1/completions", json={**COMPLETION, "stream": True})):
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers.get_list("Cache-Control") == ["no-cache"], "the answer's own goes first"
        for directive in ("default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert directive in http.get("/").headers["Content-Security-Policy"]


def test_other_web_pages_are_let_in_only_where_asked_for(scripted, strict):
    asked = {
        "Origin": "https://chat.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }
    url = "/v1/chat/completions"
    let_in = httpx.options(strict.url + url, headers=asked, trust_env=False, timeout=PATIENCE)
    assert let_in.status_code == 200
    assert let_in.headers["Access-Control-Allow-Origin"] == "https://chat.example"
    assert "authorization" in let_in.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in let_in.headers
    answer_ = httpx.get(
        f"{strict.url}/v1/models", headers={"Origin": asked["Origin"]}, trust_env=False, timeout=PATIENCE
    )
    assert "x-ratelimit-remaining-requests" in answer_.headers["Access-Control-Expose-Headers"]
    for server, origin in ((strict, "https://evil.example"), (strict, "null"), (scripted, "https://chat.example")):
        response = httpx.options(
            server.url + url, headers={**asked, "Origin": origin}, trust_env=False, timeout=PATIENCE
        )
        assert response.status_code in (400, 405)
        assert "Access-Control-Allow-Origin" not in response.headers
