"""The configuration that `octavo nginx` prints, run by the real nginx: Debian's, as installed or from the cache."""

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from event_reader import read
from paths import CACHE
from patience import PATIENCE, eventually

from octavo_runtime.nginx.configuration import configuration

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def nginx() -> str:
    """The program. Unpacking Debian's package needs no root, starts no service and installs nothing."""
    unpacked = CACHE / "nginx" / "usr" / "sbin" / "nginx"
    if (found := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")) or unpacked.exists():
        return found or str(unpacked)
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        pytest.skip("no nginx here, and no apt-get to fetch it with")
    folder = CACHE / f"nginx-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        for command in (["apt-get", "download", "nginx"], ["apt-get", "update"], ["apt-get", "download", "nginx"]):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if packages := list(folder.glob("nginx_*.deb")):
                break
        else:
            pytest.skip(f"no nginx here, and Debian's cannot be fetched: {done.stderr.strip()[-300:]}")
        subprocess.run(["dpkg", "-x", packages[0], folder / "nginx"], check=True)
        if not unpacked.exists():
            (folder / "nginx").rename(CACHE / "nginx")
    finally:
        shutil.rmtree(folder)
    return str(unpacked)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def address(url: str) -> str:
    return url.removeprefix("http://")


@pytest.fixture
def proxy(nginx: str, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts nginx in front of servers; the address to reach it at. `change`: what the text is put through."""
    processes: list[subprocess.Popen[bytes]] = []

    def starter(*urls: str, change: Callable[[str], str] = str, **options: str) -> str:
        port = free_port()
        text = configuration([address(url) for url in urls], listen=f"127.0.0.1:{port}", state=str(tmp_path), **options)
        file = tmp_path / "nginx.conf"
        file.write_text(change(text))
        # As root, nginx would give its workers to a user who may not enter pytest's folder.
        user = "user root root;" if os.geteuid() == 0 else ""
        command = [nginx, "-e", "stderr", "-c", str(file), "-g", f"daemon off; {user}"]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "[warn]" not in checked.stderr
        processes.append(subprocess.Popen(command))

        def listens(process: subprocess.Popen[bytes] = processes[-1]) -> bool:
            assert process.poll() is None, "nginx ended"
            with socket.socket() as one:
                return one.connect_ex(("127.0.0.1", port)) == 0

        eventually(listens, "nginx listens")
        return f"{'https' if options.get('tls_cert') else 'http'}://127.0.0.1:{port}"

    yield starter
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def slow(tokens: int, **options: object) -> dict:
    return {"model": "smollm2", "prompt": "[slow]", "max_tokens": tokens, **options}


def ask(url: str, body: dict) -> httpx.Response:
    return httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE, trust_env=False)


def test_the_printed_file_as_it_is(nginx, tmp_path):
    command = [sys.executable, "-m", "octavo_runtime", "nginx", "--backends", "127.0.0.1:8000,[::1]:8001"]
    printed = subprocess.run([*command, "--state", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    file = tmp_path / "nginx.conf"
    file.write_text(printed)
    checked = subprocess.run([nginx, "-e", "stderr", "-t", "-c", str(file)], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_a_server_killed_under_load_fails_no_request(proxy, start_scripted):
    doomed, well = start_scripted(), start_scripted()
    for one in (doomed, well):
        one.wait_ready()
    url = proxy(doomed.url, well.url)
    answered: list[int] = []

    def keep_asking() -> None:
        for _ in range(4):
            answered.append(ask(url, slow(10)).status_code)

    with ThreadPoolExecutor(12) as crowd:
        asking = [crowd.submit(keep_asking) for _ in range(12)]
        eventually(lambda: len(answered) > 12)
        doomed.process.kill()
        assert len(answered) < 48, "in the middle of the load"
        for one in asking:
            one.result()
    assert answered == [200] * 48


def test_load_is_spread(proxy, scripted, start_scripted):
    other = start_scripted()
    other.wait_ready()
    url = proxy(scripted.url, other.url)
    before = [one.metric("octavo_requests_total", status="success") for one in (scripted, other)]
    with ThreadPoolExecutor(8) as crowd:
        list(crowd.map(lambda _: ask(url, slow(20)), range(8)))
    after = [one.metric("octavo_requests_total", status="success") for one in (scripted, other)]
    assert min(new - old for new, old in zip(after, before, strict=True)) >= 3


def test_tokens_stream_through(proxy, scripted):
    """The first ten are here long before the last of 1500 is made."""
    url = proxy(scripted.url)
    with httpx.stream(
        "POST", f"{url}/v1/completions", json=slow(1500, stream=True), trust_env=False, timeout=PATIENCE
    ) as response:
        events = read(response.iter_lines())
        for _ in range(10):
            assert next(events).data["object"] == "text_completion"
            assert scripted.metric("octavo_requests_running") == 1
    eventually(lambda: scripted.metric("octavo_requests_running") == 0)


def test_a_client_that_leaves_ends_the_request(proxy, scripted):
    url = proxy(scripted.url)
    aborted = scripted.metric("octavo_requests_total", status="aborted")
    with httpx.stream(
        "POST", f"{url}/v1/completions", json=slow(1000, stream=True), trust_env=False, timeout=PATIENCE
    ) as response:
        next(read(response.iter_lines()))
    eventually(lambda: scripted.metric("octavo_requests_total", status="aborted") == aborted + 1)


def test_errors_keep_openais_shape(proxy, scripted):
    url = proxy(scripted.url, max_body="1k")
    refused = ask(url, {"model": "smollm2", "prompt": "a", "temperature": -1})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")
    overloaded = ask(url, {"model": "smollm2", "prompt": "[refuse overloaded]"})
    assert (overloaded.status_code, overloaded.json()["error"]["code"]) == (429, "overloaded")
    assert overloaded.headers["retry-after"] == "1"
    large = ask(url, {"model": "smollm2", "prompt": "a" * 2000})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
    for path in ("/metrics", "/debug/blocks", "/%6Detrics", "/x/../metrics"):
        hidden = raw(url, f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert hidden.startswith(b"HTTP/1.1 404"), path
        assert json.loads(hidden.partition(b"\r\n\r\n")[2])["error"]["code"] == "not_found"


def test_no_server_at_all(proxy):
    refused = ask(proxy("http://127.0.0.1:9", "http://127.0.0.1:19"), slow(1))
    assert (refused.status_code, refused.json()["error"]["type"]) == (502, "server_error")
    assert "retry-after" in refused.headers


def test_a_server_that_stops_hands_over(proxy, start_scripted, scripted):
    stopping = start_scripted("--drain", "10s")
    stopping.wait_ready()
    url = proxy(stopping.url, scripted.url)
    with ThreadPoolExecutor(20) as crowd:
        running = [crowd.submit(ask, url, slow(40)) for _ in range(4)]
        eventually(lambda: stopping.metric("octavo_requests_running") > 0)
        stopping.process.send_signal(signal.SIGTERM)
        later = [crowd.submit(ask, url, slow(2)) for _ in range(12)]
        assert [one.result().status_code for one in running + later] == [200] * 16


def test_tls(proxy, scripted, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=octavo", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *names, "-out", cert, "-keyout", key], check=True, capture_output=True)
    url = proxy(scripted.url, tls_cert=str(cert), tls_key=str(key))
    trust = ssl.create_default_context(cafile=cert)
    assert httpx.get(f"{url}/v1/models", verify=trust, trust_env=False, timeout=PATIENCE).status_code == 200
    host, port = url.removeprefix("https://").split(":")
    for version, protocol in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        trust.minimum_version = trust.maximum_version = version
        with (
            socket.create_connection((host, int(port))) as plain,
            trust.wrap_socket(plain, server_hostname=host) as tls,
        ):
            assert tls.version() == protocol
            assert any(word in tls.cipher()[0] for word in ("GCM", "CHACHA20")), "forward secret and authenticated"


def test_clients_that_send_slowly_are_sent_away(proxy, scripted):
    url = proxy(scripted.url, change=lambda text: text.replace("client_header_timeout 10s", "client_header_timeout 1s"))
    host, port = url.removeprefix("http://").split(":")
    before = scripted.metric("octavo_requests_total", status="rejected")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as one:
        one.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n")

        def is_over() -> bool:
            try:
                one.sendall(b"x")  # a byte now and then does not prolong it
            except OSError:
                return True
            return False

        eventually(is_over, "nginx has enough of it")
    assert scripted.metric("octavo_requests_total", status="rejected") == before


class Recorder(threading.Thread):
    """A server that takes each request apart by its Content-Length alone, and remembers head and body of all."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.requests: list[tuple[bytes, bytes]] = []
        self.loop = asyncio.new_event_loop()
        self.listening = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.sockets[0].getsockname()[1]}"

    def run(self) -> None:
        self.loop.run_forever()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)
                self.requests.append((head, body))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@contextmanager
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    server.start()
    yield server
    server.loop.call_soon_threadsafe(server.loop.stop)
    server.join()
    server.listening.close()
    for task in asyncio.all_tasks(server.loop):
        task.cancel()
    server.loop.run_until_complete(asyncio.sleep(0.01))
    server.loop.close()


def raw(url: str, data: bytes, still: float = PATIENCE) -> bytes:
    """What comes back on a connection until it closes, or until something came and it is still for so many seconds."""
    host, port = url.removeprefix("http://").split(":")
    got = b""
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as one:
        one.sendall(data)
        try:
            while piece := one.recv(65536):
                got += piece
                one.settimeout(still)
        except (TimeoutError, ConnectionResetError):
            pass
    return got


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"0\r\n\r\n" + SMUGGLED
ATTACKS = {
    "length and chunks": [b"Content-Length: %d" % len(CHUNKED), b"Transfer-Encoding: chunked"],
    "chunks and length": [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "two lengths": [b"Content-Length: 0", b"Content-Length: %d" % len(CHUNKED)],
    "two equal lengths": [b"Content-Length: 5", b"Content-Length: 5"],
    "a list of lengths": [b"Content-Length: 5, %d" % len(CHUNKED)],
    "a signed length": [b"Content-Length: +5"],
    "a hexadecimal length": [b"Content-Length: 0x5"],
    "a folded header": [b"Content-Length: %d" % len(CHUNKED), b"X: a\r\n Transfer-Encoding: chunked"],
    "a folded encoding": [b"Content-Length: %d" % len(CHUNKED), b"Transfer-Encoding:\r\n chunked"],
    "a space before the colon": [b"Content-Length: %d" % len(CHUNKED), b"Transfer-Encoding : chunked"],
    "an underscore": [b"Content-Length: %d" % len(CHUNKED), b"Transfer_Encoding: chunked"],
    "an unknown encoding": [b"Content-Length: %d" % len(CHUNKED), b"Transfer-Encoding: xchunked"],
    "two encodings": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
    "a list of encodings": [b"Transfer-Encoding: identity, chunked"],
    "a tab in a name": [b"Content-Length: %d" % len(CHUNKED), b"Transfer-Encoding\t: chunked"],
    "a null in a value": [b"Content-Length: %d" % len(CHUNKED), b"X: a\x00\r\nTransfer-Encoding: chunked"],
    "a length by a header that hides it": [b"Content-Length: %d" % len(CHUNKED), b"Connection: content-length"],
}


def test_no_request_is_smuggled_past_it(proxy):
    with recorder() as backend:
        url = proxy(backend.url)
        reached = {}
        for name, headers in ATTACKS.items():
            backend.requests.clear()
            head = b"\r\n".join([b"POST /v1/completions HTTP/1.1", b"Host: a", *headers, b"", b""])
            raw(url, head + CHUNKED, still=0.5)
            # On the connection that nginx keeps to the server, a smuggled request would be read before this one.
            assert raw(url, b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
            *attack, after = [head.split(b" ")[1] for head, _ in backend.requests]
            assert after == b"/after", name
            reached[name] = attack
            for seen, body in backend.requests:
                lines = seen.lower().split(b"\r\n")
                assert sum(line.startswith(b"content-length") for line in lines) <= 1, name
                assert not any(line.startswith((b"transfer", b" ", b"\t")) for line in lines), name
                assert body in (b"", CHUNKED), name
    plain = [b"/v1/completions"]
    assert {name: attack for name, attack in reached.items() if attack} == {
        "an underscore": plain,
        "a length by a header that hides it": plain,
    }, "all others are refused; these are one request with one length"


def test_what_reaches_a_server(proxy):
    with recorder() as backend:
        url = proxy(backend.url)
        httpx.post(
            f"{url}/v1/a",
            content=iter([b"ab", b"c"]),
            headers={"authorization": "Bearer k", "x-forwarded-for": "6.6.6.6", "x_odd": "1", "x-request-id": "r"},
            trust_env=False,
            timeout=PATIENCE,
        )
        [(head, body)] = backend.requests
    lines = head.decode().lower().split("\r\n")
    assert body == b"abc"
    for line in ("content-length: 3", "authorization: bearer k", "x-forwarded-for: 127.0.0.1", "x-request-id: r"):
        assert line in lines
    assert not any(line.startswith(("x_odd", "transfer-encoding", "connection")) for line in lines)
