"""The client against servers: those of this project, and a scripted one that misbehaves to order."""

import asyncio
import contextlib
import email.utils
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace

import pytest
from patience import eventually_async

from octavo_runtime.client import (
    Client,
    InvalidRequest,
    NoAnswer,
    NotAllowed,
    RateLimited,
    ServerFailed,
    StreamBroken,
)

pytestmark = pytest.mark.slow

OK = {"choices": [{"text": "fine"}]}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def client(*urls: str, **options) -> Client:
    return Client(urls, **{"backoff": 0.05, **options})


def slow(tokens: int) -> dict:
    return {"prompt": "[slow]", "model": "smollm2", "max_tokens": tokens}


class Misbehaving:
    """A server that answers each request by the next of its `answers`: (status, headers, body as a dict), b"raw bytes",
    or None for a lost connection. It remembers when requests came and what they said."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.times: list[float] = []
        self.requests: list[bytes] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b":0")
            body = await reader.readexactly(int(length.partition(b":")[2]))
            self.times.append(time.monotonic())
            self.requests.append(head + body)
            answer = self.answers.pop(0) if self.answers else (200, {}, OK)
            if isinstance(answer, tuple):
                status, headers, content = answer
                data = json.dumps(content).encode()
                lines = [f"{name}: {value}" for name, value in {**headers, "content-length": len(data)}.items()]
                answer = "\r\n".join([f"HTTP/1.1 {status} x", *lines, "connection: close", "", ""]).encode() + data
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def misbehaving(*answers) -> AsyncIterator[Misbehaving]:
    server = Misbehaving(*answers)
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server


async def test_answers_and_streams(scripted):
    async with client(scripted.url + "/v1") as asked:
        whole = await asked.chat([{"role": "user", "content": "hi"}], model="smollm2", max_tokens=5)
        assert whole["choices"][0]["message"]["content"] == "The capital of France is"
        chunks = [
            c async for c in asked.stream_chat([{"role": "user", "content": "hi"}], model="smollm2", max_tokens=5)
        ]
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "The capital of France is"
        text = [c["choices"][0]["text"] async for c in asked.stream_completions("hi", model="smollm2", max_tokens=5)]
        assert "".join(text) == (await asked.completions("hi", model="smollm2", max_tokens=5))["choices"][0]["text"]
        assert (await asked.request("/v1/models"))["data"][0]["id"] == "smollm2"


async def test_requests_go_where_the_fewest_are(scripted, start_scripted):
    other = start_scripted()
    other.wait_ready()
    before = [one.metric("octavo_requests_total", status="success") for one in (scripted, other)]
    async with client(scripted.url, other.url) as asked:
        await asyncio.gather(*(asked.completions(**slow(10)) for _ in range(12)))
    after = [one.metric("octavo_requests_total", status="success") for one in (scripted, other)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [6, 6]


async def test_a_server_killed_under_load_fails_no_request(start_scripted):
    doomed, well = start_scripted(), start_scripted()
    for one in (doomed, well):
        one.wait_ready()
    answers = []

    async def keep_asking(asked: Client) -> None:
        for _ in range(4):
            answers.append(await asked.completions(**slow(10)))

    async with client(doomed.url, well.url) as asked:
        load = asyncio.gather(*(keep_asking(asked) for _ in range(12)))
        await eventually_async(lambda: len(answers) > 12)
        doomed.process.kill()
        assert len(answers) < 48, "in the middle of the load"
        await load
    assert len(answers) == 48
    assert len({answer["choices"][0]["text"] for answer in answers}) == 1


async def test_a_stream_is_not_tried_again_once_it_began(start_scripted):
    doomed, well = start_scripted(), start_scripted()
    for one in (doomed, well):
        one.wait_ready()
    begun, ends = [], []

    async def read(asked: Client) -> None:
        events = []
        try:
            async for event in asked.stream_completions(**slow(50)):
                if not events:
                    begun.append(event["id"])
                events.append(event)
            ends.append("whole")
        except StreamBroken:
            ends.append("broken")
        assert len({event["id"] for event in events}) == 1, "events of one answer alone"

    async with client(doomed.url, well.url) as asked:
        reading = asyncio.gather(*(read(asked) for _ in range(8)))
        await eventually_async(lambda: len(begun) == 8)
        doomed.process.kill()
        await reading
    assert sorted(ends) == ["broken"] * 4 + ["whole"] * 4


async def test_a_server_that_stops_hands_over(start_scripted):
    stopping, other = start_scripted("--drain", "5s"), start_scripted()
    for one in (stopping, other):
        one.wait_ready()
    async with client(stopping.url, other.url) as asked:
        streams = [asyncio.create_task(_last(asked.stream_completions(**slow(60)))) for _ in range(4)]
        await eventually_async(lambda: stopping.metric("octavo_requests_running") >= 1)
        stopping.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*(asked.completions(**slow(3)) for _ in range(10)))
        assert len(answers) == 10
        ends = await asyncio.gather(*streams)
        assert [end["choices"][0]["finish_reason"] for end in ends] == ["length"] * 4


async def _last(stream) -> dict:
    return [event async for event in stream][-1]


async def _count(stream) -> int:
    return len([event async for event in stream if event["choices"]])


async def test_overload_is_told_with_the_servers_words(scripted):
    asked = client(scripted.url, tries=2)
    started = time.monotonic()
    with pytest.raises(RateLimited) as refused:
        await asked.completions("[refuse overloaded]", model="smollm2")
    assert time.monotonic() - started >= 1, "Retry-After is at least a second"
    assert (refused.value.status, refused.value.code) == (429, "overloaded")
    assert refused.value.error["message"] == "max_queue_len: at most 1 requests may wait, 1 do"
    await asked.aclose()


@pytest.mark.parametrize(("header", "least"), [("1", 1.0), ("3600", 1.5), ("nonsense", 0.02)])
async def test_retry_after_is_honoured_within_its_bound(header, least):
    async with misbehaving((429, {"retry-after": header}, {})) as server:
        async with client(server.url, retry_after_limit=1.5) as asked:
            assert await asked.request("/v1/completions", {}) == OK
        first, second = server.times
        assert least <= second - first < 3600


async def test_retry_after_may_be_a_date():
    until = int(time.time() + 2.5)
    async with misbehaving((429, {"retry-after": email.utils.formatdate(until, usegmt=True)}, {})) as server:
        async with client(server.url) as asked:
            assert await asked.request("/v1/completions", {}) == OK
        assert len(server.times) == 2
        assert time.time() >= until


async def test_all_requests_heed_it_and_other_endpoints_take_over():
    async with misbehaving((503, {"retry-after": "30"}, {})) as resting, misbehaving() as other:
        async with client(resting.url, other.url) as asked:
            for _ in range(10):
                assert await asked.request("/v1/completions", {}) == OK
        assert len(resting.times) <= 1
        assert len(other.times) == 10


@pytest.mark.parametrize(
    "answer",
    [None, (429, {}, {}), (502, {}, {}), (503, {}, {}), (504, {}, {}), b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\n{"],
)
async def test_what_is_tried_again(answer):
    async with misbehaving(answer, answer) as server, client(server.url) as asked:
        assert await asked.request("/v1/completions", {}) == OK
        assert len(server.times) == 3
        first, second, third = server.times
        assert second - first >= 0.025
        assert third - second >= 0.05


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, {}, {"error": {"message": "no", "param": "prompt"}}), InvalidRequest),
        ((401, {}, {"error": {"message": "no", "code": "invalid_api_key"}}), NotAllowed),
        ((404, {}, {"error": "no"}), InvalidRequest),
        ((500, {}, {"error": {"message": "no"}}), ServerFailed),
        ((307, {"location": "http://127.0.0.1:9/"}, {}), ServerFailed),
        (b"HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n[]", ServerFailed),
        (b"HTTP/1.1 200 x\r\ncontent-length: 4\r\n\r\nhtml", ServerFailed),
    ],
)
async def test_what_is_not(answer, kind):
    for stream in (False, True):
        async with misbehaving(answer) as server, client(server.url) as asked:
            if stream and isinstance(answer, bytes):
                continue
            with pytest.raises(kind) as refused:
                await (_count(asked.stream("/v1/completions", {})) if stream else asked.request("/v1/completions", {}))
            assert len(server.times) == 1
            if isinstance(answer, tuple):
                assert refused.value.status == answer[0]
                assert json.loads(refused.value.body) == answer[2]
                error = answer[2].get("error")
                assert refused.value.error == (error if isinstance(error, dict) else {})


async def test_a_stream_is_tried_again_before_its_first_event():
    head = b"HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    event = b'data: {"choices": [1]}\n\n'
    chunk = f"{len(event):x}\r\n".encode() + event + b"\r\n"
    whole = head + chunk + chunk + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    async with misbehaving((503, {}, {}), head + b"5\r\n: hi\n\r\n", whole) as server, client(server.url) as asked:
        assert await _count(asked.stream("/v1/completions", {"a": 1})) == 2
        assert json.loads(server.requests[-1].partition(b"\r\n\r\n")[2]) == {"a": 1, "stream": True}
    async with misbehaving(head + chunk, whole) as server, client(server.url) as asked:
        with pytest.raises(StreamBroken):
            await _count(asked.stream("/v1/completions", {}))
        assert len(server.times) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_timeouts_are_tried_again_elsewhere(stream):
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as mute, misbehaving() as other:
        mute_url = f"http://127.0.0.1:{mute.sockets[0].getsockname()[1]}"
        async with client(mute_url, other.url, timeout=0.3, break_after=100) as asked:
            for _ in range(3):
                if stream:
                    assert await _count(asked.stream("/v1/completions", {})) == 0
                else:
                    assert await asked.request("/v1/completions", {}) == OK
        async with client(mute_url, timeout=0.1, tries=2) as asked:
            with pytest.raises(NoAnswer, match="ReadTimeout"):
                await asked.request("/v1/completions", {})


async def test_a_circuit_opens_and_closes(monkeypatch):
    hours = 0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * hours)
    monkeypatch.setattr("octavo_runtime.client.tries.time", clock)
    async with (
        misbehaving(*[(503, {}, {})] * 4) as server,
        client(server.url, tries=1, break_after=3, break_seconds=3600) as asked,
    ):
        for _ in range(3):
            with pytest.raises(ServerFailed):
                await asked.request("/v1/models")
        with pytest.raises(NoAnswer, match="every endpoint failed too often"):
            await asked.request("/v1/models")
        assert len(server.times) == 3, "an open circuit spares the server"
        hours = 1
        with pytest.raises(ServerFailed):
            await asked.request("/v1/models")
        with pytest.raises(NoAnswer):
            await asked.request("/v1/models")
        hours = 2
        assert await asked.request("/v1/models") == OK
        assert await asked.request("/v1/models") == OK


async def test_nobody_there():
    async with client("http://127.0.0.1:9", "http://127.0.0.1:19") as asked:
        with pytest.raises(NoAnswer, match=r"http://127.0.0.1:1?9 did not answer"):
            await asked.completions("a", model="b")
        with pytest.raises(NoAnswer):
            await _count(asked.stream_completions("a", model="b"))


async def test_an_error_event_keeps_its_body(scripted):
    async with client(scripted.url) as asked:
        with pytest.raises(StreamBroken) as broken:
            await _count(asked.stream_completions("[error deadline]", model="smollm2"))
        assert broken.value.error["code"] == "deadline_exceeded"
        rejected = scripted.metric("octavo_requests_total", status="rejected")
        with pytest.raises(InvalidRequest) as refused:
            await asked.completions("a", model="smollm2", temperature=-1)
        assert (refused.value.status, refused.value.param) == (400, "temperature")
        assert scripted.metric("octavo_requests_total", status="rejected") == rejected + 1


async def test_leaving_ends_the_request_on_the_server(scripted):
    aborted = scripted.metric("octavo_requests_total", status="aborted")

    def more(count: int):
        return lambda: scripted.metric("octavo_requests_total", status="aborted") == aborted + count

    async with client(scripted.url) as asked:
        async with aclosing(asked.stream_completions(**slow(1000))) as events:
            await anext(events)
        await eventually_async(more(1))
        for count, work in enumerate(
            (asked.completions(**slow(1000)), _count(asked.stream_completions(**slow(1000)))), 2
        ):
            task = asyncio.create_task(work)
            await eventually_async(lambda: scripted.metric("octavo_requests_running") == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually_async(more(count))
        assert (await asked.completions(**slow(1)))["choices"], "the client goes on"


async def test_keys_and_misuse():
    async with misbehaving() as server, client(server.url, api_key="sk-1") as asked:
        await asked.request("/v1/models")
        assert b"authorization: bearer sk-1\r\n" in server.requests[0].lower()
        with pytest.raises(ValueError, match="stream_chat"):
            await asked.chat([], model="a", stream=True)
        with pytest.raises(ValueError, match="must begin with /"):
            await asked.request("v1/models")
        with pytest.raises(ValueError, match="JSON compliant"):
            await asked.completions("a", model="a", temperature=float("nan"))
        assert len(server.requests) == 1
