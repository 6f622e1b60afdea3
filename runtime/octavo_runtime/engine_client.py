"""The API process's end of the engine: starts the engine process, sends requests, hands out tokens."""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from octavo_runtime.config import EngineConfig
from octavo_runtime.messages import (
    Abort,
    Add,
    BlockMap,
    Command,
    Event,
    Failed,
    Hello,
    Inspect,
    Load,
    Output,
    Ready,
    Step,
)
from octavo_runtime.sampling_params import SamplingParams

HUNG_AFTER_SECONDS = 8.0


class EngineFailure(RuntimeError):
    """The engine cannot start, or has died. One line for a person."""


@dataclass
class _Stream:
    """The outputs of one request on their way; None after them: the engine is gone. `ended`: its answers that grow no
    more."""

    num_answers: int
    outputs: asyncio.Queue[Output | None] = field(default_factory=asyncio.Queue)
    ended: set[int] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        return len(self.ended) == self.num_answers


class EngineClient:
    """One engine process and the requests that wait for its tokens. Lives in one asyncio loop."""

    def __init__(self) -> None:
        self.ready: Ready | None = None
        self.load = Load()
        self._streams: dict[str, _Stream] = {}
        self._block_maps: list[asyncio.Future[BlockMap]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._started: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._last_beat = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="octavo-")
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._encoder = msgspec.msgpack.Encoder()

    async def start(self, config: EngineConfig) -> Ready:
        """Starts the engine process and waits until it can serve; EngineFailure when it cannot."""
        endpoint = f"ipc://{Path(self._folder.name) / 'engine'}"
        self._process = subprocess.Popen(  # not multiprocessing, whose start methods pickle
            [sys.executable, "-m", "octavo_runtime.engine_process", config.model_dump_json(), endpoint],
            stdin=subprocess.DEVNULL,
        )
        self._socket.connect(endpoint)
        self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._watch(self._process))]
        await self._send(Hello())
        await asyncio.wait((self._started, self._failure), return_when=asyncio.FIRST_COMPLETED)
        if not self._started.done():
            raise EngineFailure(self._failure.result())
        return self._started.result()

    async def generate(
        self,
        request_id: str,
        prompt: list[int],
        params: SamplingParams,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timeout: float | None = None,
    ) -> AsyncGenerator[Output, None]:
        """Outputs of one request until all its answers have a finish_reason, or one has an error (arguments: see
        messages.Add). Closing the generator early aborts the request."""
        stream = self._streams[request_id] = _Stream(params.num_answers)
        failed = False
        try:
            self._raise_if_failed()
            await self._send(Add(request_id, prompt, params, priority, cache_salt, timeout))
            while not (stream.finished or failed):
                output = await stream.outputs.get()
                if output is None:
                    raise EngineFailure(self._failure.result())
                failed = output.error is not None
                if output.finish_reason is not None:
                    stream.ended.add(output.index)
                yield output
        finally:
            del self._streams[request_id]
            if not (stream.finished or failed or self._failure.done()):
                await self._send(Abort(request_id))

    async def abort_answer(self, request_id: str, index: int) -> None:
        """Ends one answer of a request whose outputs are being read; the others go on."""
        stream = self._streams.get(request_id)
        if stream is not None and index not in stream.ended and not self._failure.done():
            stream.ended.add(index)
            await self._send(Abort(request_id, index))

    async def block_map(self) -> BlockMap:
        """Who holds which block of the KV cache now; EngineFailure when the engine is gone."""
        self._raise_if_failed()
        answer: asyncio.Future[BlockMap] = asyncio.get_running_loop().create_future()
        self._block_maps.append(answer)
        await self._send(Inspect())
        await asyncio.wait((answer, self._failure), return_when=asyncio.FIRST_COMPLETED)
        self._raise_if_failed()
        return answer.result()

    def problem(self) -> str | None:
        """None while the engine lives and its loop turns; else one line that says what is wrong."""
        if self._failure.done():
            return self._failure.result()
        silent = time.monotonic() - self._last_beat
        if self.ready is not None and silent > HUNG_AFTER_SECONDS:
            return f"the engine has not answered for {silent:.0f} s"
        return None

    async def wait_failed(self) -> str:
        """Waits for the engine's death; one line that says why."""
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Ends the engine process and frees the socket."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._fail("the engine was stopped")
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, 5)
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        self._socket.close()
        self._context.term()
        self._folder.cleanup()

    async def _send(self, command: Command) -> None:
        await self._socket.send(self._encoder.encode(command))

    async def _receive(self) -> None:
        decoder = msgspec.msgpack.Decoder(Event)
        while True:
            event = decoder.decode(await self._socket.recv())
            self._last_beat = time.monotonic()
            match event:
                case Step(outputs=outputs, load=load):
                    self.load = load
                    for output in outputs:
                        if output.request_id in self._streams:
                            self._streams[output.request_id].outputs.put_nowait(output)
                case BlockMap():
                    asked = self._block_maps.pop(0)
                    if not asked.cancelled():
                        asked.set_result(event)
                case Ready():
                    self.ready = event
                    self._started.set_result(event)
                case Failed(message=message):
                    self._fail(message)

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = await asyncio.to_thread(process.wait)
        await asyncio.sleep(0.1)  # a last message may still be on its way
        self._fail(f"the engine process ended with exit code {code}")

    def _fail(self, message: str) -> None:
        if not self._failure.done():
            self._failure.set_result(message)
            for stream in self._streams.values():
                stream.outputs.put_nowait(None)

    def _raise_if_failed(self) -> None:
        if self._failure.done():
            raise EngineFailure(self._failure.result())
