"""Any client: what it offers, speaks and sends around a request does not change the answer, or is refused by name."""

import gzip
import json
import re
import shutil
import socket
import struct
import subprocess
import time

import httpx
import pytest
from event_reader import events, read
from patience import PATIENCE, eventually

COMPLETION = {"model": "smollm2", "prompt": "hi", "max_tokens": 2}
BODY = json.dumps(COMPLETION).encode()
JSON = {"Content-Type": "application/json"}
POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
# What the JDK's HttpClient and `curl --http2` put into each request by default.
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAA\r\n"
WEBSOCKET = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: YQ==\r\n"
WITH_LENGTH = b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def connect(server) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.settimeout(30)
    return connection


def answers(server, *pieces: bytes) -> list[bytes]:
    """What comes until the server closes the connection, answer by answer. The pieces arrive one by one."""
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.002)
        got = b""
        while piece := connection.recv(65536):
            got += piece
    return [one for one in re.split(rb"(?=HTTP/1\.1 \d)", got) if one]


def completed(answer: bytes) -> str:
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["text"]


LAST = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET, H2C + WEBSOCKET], ids=["h2c", "websocket", "both"])
@pytest.mark.parametrize("body", [WITH_LENGTH, CHUNKED], ids=["length", "chunks"])
def test_an_offer_of_another_protocol_is_ignored(scripted, offer, body):
    first, last = answers(scripted, POST + offer + body + LAST)
    assert completed(first) == "The capital"
    assert b'"version"' in last, "and the connection goes on"


@pytest.mark.parametrize("at", [1, 7])
def test_an_offer_may_come_in_pieces(scripted, at):
    request = POST + H2C + CHUNKED
    pieces = [request[place : place + at] for place in range(0, len(request), at)]
    first, _ = answers(scripted, *pieces, LAST)
    assert completed(first) == "The capital"


def test_offers_may_follow_one_another(scripted):
    got = answers(
        scripted,
        (POST + H2C + WITH_LENGTH) * 5 + b"GET /version HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"\r\n" + LAST,
    )
    assert [completed(one) for one in got[:5]] == ["The capital"] * 5
    assert len(got) == 7
    many = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n" * 2000
    assert len(answers(scripted, many + LAST)) == 2001


def test_an_offer_hides_no_second_request(scripted):
    """Two lengths, and a length beside chunks, are no request with an offer either."""
    for headers in (
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    ):
        [got] = answers(scripted, POST + H2C + headers + b"\r\n{}" + LAST)
        assert got.startswith(b"HTTP/1.1 400 ")
    [got] = answers(scripted, b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + LAST)
    assert got.startswith(b"HTTP/1.1 400 ")


def test_a_stream_to_a_client_of_http_1_0_has_no_chunks(scripted):
    body = json.dumps({**COMPLETION, "stream": True}).encode()
    for connection in (b"", b"Connection: keep-alive\r\n"):
        head = POST.replace(b"1.1", b"1.0") + connection + b"Content-Length: %d\r\n\r\n" % len(body)
        [got] = answers(scripted, head + body)
        headers, _, told = got.partition(b"\r\n\r\n")
        assert headers.startswith(b"HTTP/1.1 200 ")
        assert b"transfer-encoding" not in headers.lower()
        assert b"connection: close" in headers.lower()
        *chunks, end = events(told.decode())
        assert end.data == "[DONE]"
        assert "".join(chunk.data["choices"][0]["text"] for chunk in chunks) == "The capital"
    [whole] = answers(scripted, POST.replace(b"1.1", b"1.0") + WITH_LENGTH)
    assert completed(whole) == "The capital"
    assert b"content-length: " in whole


@pytest.mark.parametrize(
    "path", ["/health", "/health/live", "/health/ready", "/version", "/v1/models", "/metrics", "/"]
)
def test_head_is_answered_wherever_get_is(scripted, path):
    with httpx.Client(base_url=scripted.url, trust_env=False, timeout=PATIENCE) as http:
        head, get = http.head(path), http.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
        assert "Content-Length" in head.headers
        assert http.head("/v1/completions").status_code == 405
        assert http.head("/nothing").status_code == 404


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br", "identity, gzip", "GZIP"])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/messages", "/v1/embeddings"])
def test_a_compressed_body_is_refused_by_name(scripted, encoding, path):
    headers = {**JSON, "Content-Encoding": encoding}
    content = gzip.compress(BODY)
    response = httpx.post(scripted.url + path, content=content, headers=headers, trust_env=False, timeout=PATIENCE)
    assert response.status_code == 415
    assert response.headers["Accept-Encoding"] == "identity"
    message = response.json()["error"]["message"]
    assert message == f"Content-Encoding: must be identity or left out, the body as it is, got '{encoding}'"


def test_a_body_as_it_is_may_say_so(scripted):
    headers = {**JSON, "Content-Encoding": "identity"}
    assert httpx.post(
        f"{scripted.url}/v1/completions", content=BODY, headers=headers, trust_env=False, timeout=PATIENCE
    ).is_success


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_no_event_has_a_line_end_but_its_own(scripted, path):
    """Readers that split lines as Unicode has them, httpx's own among them, would cut an event in two."""
    said = "one\u2028two\u2029three\u0085four"
    asked = f"[say]{said}[/say]"
    body = {"model": "smollm2", "stream": True}
    match path:
        case "/v1/completions":
            body |= {"prompt": asked, "max_tokens": 40}
        case "/v1/responses":
            body |= {"input": asked}
        case _:
            body |= {"messages": [{"role": "user", "content": asked}], "max_tokens": 40}
    with httpx.stream("POST", scripted.url + path, json=body, trust_env=False, timeout=PATIENCE) as response:
        told = [event.data for event in read(response.iter_lines()) if event.data != "[DONE]"]
        assert response.status_code == 200
    pieces = []
    for event in told:
        match path:
            case "/v1/completions":
                pieces.append(event["choices"][0]["text"])
            case "/v1/chat/completions":
                pieces.append(event["choices"][0]["delta"].get("content", ""))
            case "/v1/messages":
                pieces.append(event.get("delta", {}).get("text", ""))
            case _:
                pieces.append(event["delta"] if event["type"] == "response.output_text.delta" else "")
    assert "".join(pieces) == said


@pytest.mark.slow
def test_an_idle_connection_stays_as_long_as_asked_for(start_scripted):
    server = start_scripted("--keep-alive", "1s")
    began = time.monotonic()
    with connect(server) as connection:
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = b""
        while piece := connection.recv(65536):
            got += piece
        assert b'"version"' in got
        assert time.monotonic() - began > 0.9


JAVA = """
import java.net.URI;
import java.net.http.*;

class Ask {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        for (var body : new HttpRequest.BodyPublisher[] {
                HttpRequest.BodyPublishers.ofString(arguments[1]),
                HttpRequest.BodyPublishers.fromPublisher(HttpRequest.BodyPublishers.ofString(arguments[1]))}) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0] + "/v1/completions"))
                .header("Content-Type", "application/json").POST(body).build();
            var response = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(response.statusCode() + " " + response.body());
        }
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="needs a JDK")
def test_javas_own_client(scripted, tmp_path):
    """It offers HTTP/2 with every request; with a length first, then in chunks."""
    (tmp_path / "Ask.java").write_text(JAVA)
    asked = ["java", str(tmp_path / "Ask.java"), scripted.url, json.dumps(COMPLETION)]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["200", "200"], lines
    assert all("The capital" in line for line in lines)


SLOW = json.dumps({"model": "smollm2", "prompt": "[slow]", "max_tokens": 2000}).encode()
SLOW = POST + b"Content-Length: %d\r\n\r\n%s" % (len(SLOW), SLOW)
BEHIND = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"


def running(server) -> int:
    return httpx.get(f"{server.url}/load", trust_env=False, timeout=PATIENCE).json()["running"]


def test_an_answer_ends_with_its_client_whatever_waits_behind_it(start_scripted):
    """Requests that came behind it on the same connection wait for it."""
    server = start_scripted()
    server.wait_ready()
    with connect(server) as connection:
        connection.sendall(SLOW + BEHIND)
        eventually(lambda: running(server) == 1, "it is answered")
    eventually(lambda: running(server) == 0, "it is aborted")
    eventually(lambda: server.metric("octavo_requests_total", status="aborted") == 1, "and counted so")


def test_clients_that_leave_their_answers_bring_no_stack_trace(start_scripted):
    server = start_scripted()
    server.wait_ready()
    for number in range(30):
        with connect(server) as connection:
            connection.sendall(BEHIND.replace(b"/version", b"/openapi.json") * 50)
            time.sleep(0.01 * (number % 6))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.process.terminate()
    _, said = server.process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said + "".join(server.log)
    assert "Exception in ASGI" not in said + "".join(server.log)


def test_what_is_no_http_behind_a_stream_is_not_told_within_it(scripted):
    """The connection is closed; an answer of its own would be taken for a part of the stream."""
    body = json.dumps({"model": "smollm2", "prompt": "[slow]", "max_tokens": 40, "stream": True}).encode()
    stream = POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    with connect(scripted) as connection:
        connection.sendall(stream + BEHIND)
        got = connection.recv(65536)
        connection.sendall(b"nonsense\r\n\r\n")
        while piece := connection.recv(65536):
            got += piece
    assert got.count(b"HTTP/1.1 ") == 1, got
