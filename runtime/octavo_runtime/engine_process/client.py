"""The API process's end of the engine: starts the engine process, sends requests, hands out tokens."""

import asyncio
import contextlib
import itertools
import math
import os
import subprocess
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
import zmq
import zmq.asyncio

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine_process.own_folder import own_folder
from octavo_runtime.engine_process.pulse import pulse_endpoint
from octavo_runtime.engine_process.stream import Stream
from octavo_runtime.protocol.child import start_child
from octavo_runtime.protocol.messages import (
    BEATS,
    EVENTS,
    Abort,
    Add,
    Beat,
    BlockMap,
    Command,
    Embed,
    Failed,
    Hello,
    Inspect,
    Load,
    Output,
    Ready,
    Step,
)
from octavo_runtime.protocol.pooling_params import PoolingParams
from octavo_runtime.protocol.sampling_params import InvalidParameter, SamplingParams

# A process whose pulse is not heard for so long is taken for dead, however long its steps may take.
SILENT_SECONDS = 8.0
_LISTEN_SECONDS = 1.0
_END_SECONDS = 5.0

# After so many messages in a row the readers get their turn. What they find waiting then is joined, so that they cost
# less the further they are behind.
_EVENTS_AT_ONCE = 4

# How glibc manages the memory of an engine on a CPU, whose speed is that of reading weights and KV cache: from one
# heap in huge pages, which take fewer look-ups (docs/adr/0006), and without returning to the system what the next step
# takes again. It is read when a process starts, so no Python code of the engine's own could set it.
_CPU_MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=268435456"


class EngineFailure(RuntimeError):
    """The engine cannot start, or has died. One line for a person."""


class EngineRefused(EngineFailure, ValueError):
    """The engine cannot start with this configuration."""


class EngineClient:
    """One engine process and the requests that wait for its tokens. Lives in one asyncio loop.

    program: the module that the process runs; it is called with the configuration, the endpoint and the id of this
    process, with which it ends (see protocol.child). Raises EngineRefused where the temporary folder's name is too long
    for sockets, OSError where there is none."""

    def __init__(self, program: str = "octavo_runtime.engine_process.process") -> None:
        self._program = program
        self.ready: Ready | None = None
        self.load = Load()
        self._streams: dict[str, Stream] = {}
        self._block_maps: list[asyncio.Future[BlockMap]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._ranks = 1
        self._children: list[psutil.Process] = []  # further ranks
        self._failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._started: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._beat = Beat(0.0, math.inf)
        self._silent = 0.0  # seconds that this process has listened since it heard the last beat
        self.refused = False  # whether the engine could not start for what was asked of it
        self._tasks: list[asyncio.Task[None]] = []
        with contextlib.ExitStack() as folder:
            self.endpoint = _endpoint_in(folder.enter_context(own_folder()))
            self._folder = folder.pop_all()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)  # nobody waits for a hung engine to take an abort
        self._pulse = self._context.socket(zmq.SUB)
        self._pulse.setsockopt(zmq.LINGER, 0)
        self._pulse.setsockopt(zmq.CONFLATE, 1)  # the latest beat alone counts
        self._pulse.subscribe(b"")
        self._encoder = msgspec.msgpack.Encoder()

    async def start(self, config: EngineConfig) -> Ready:
        """Starts the engine process and waits until it can serve; EngineFailure when it cannot."""
        self._ranks = config.num_ranks
        words = [config.model_dump_json(), self.endpoint]
        try:
            self._process = start_child(self._program, words, env=_environment(config))
        except (OSError, RuntimeError) as error:  # no process, or no thread to be its parent
            raise EngineFailure(f"the engine process cannot be started: {error}") from None
        return await self._greet(self.endpoint, self._watch(self._process))

    async def join(self, endpoint: str, failed: Coroutine[Any, Any, str]) -> Ready:
        """Waits until an engine process that another one started can serve; EngineFailure when it cannot. `failed`
        waits for that engine's death and says why."""

        async def watch() -> None:
            self._fail(await failed)

        return await self._greet(endpoint, watch())

    async def _greet(self, endpoint: str, watching: Coroutine[Any, Any, None]) -> Ready:
        self._socket.connect(endpoint)
        self._pulse.connect(pulse_endpoint(endpoint))
        self._tasks = [asyncio.create_task(task) for task in (self._receive(), self._listen(), watching)]
        await self._send(Hello())
        await asyncio.wait((self._started, self._failure), return_when=asyncio.FIRST_COMPLETED)
        if not self._started.done():
            raise (EngineRefused if self.refused else EngineFailure)(self._failure.result())
        return self._started.result()

    def generate(
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
        command = Add(request_id, prompt, params, priority, cache_salt, timeout)
        # Tokens behind a stop string do not count, so each step's are looked at alone.
        return self._outputs(command, Stream(params.num_answers, joins=not params.stop))

    async def embed(
        self,
        request_id: str,
        prompt: list[int],
        params: PoolingParams,
        *,
        priority: int = 0,
        cache_salt: str = "",
        timeout: float | None = None,
    ) -> Output:
        """The output that holds a prompt's embedding, or an error (arguments: see messages.Embed). Cancelling it aborts
        the request."""
        command = Embed(request_id, prompt, params, priority, cache_salt, timeout)
        async with contextlib.aclosing(self._outputs(command, Stream(1, joins=False))) as outputs:
            return await anext(outputs)

    async def _outputs(self, command: Add | Embed, stream: Stream) -> AsyncGenerator[Output, None]:
        request_id = command.request_id
        if request_id in self._streams:  # else the first one would wait for ever
            raise InvalidParameter("request_id", f"must be new, got {request_id!r} again")
        self._streams[request_id] = stream
        failed = False
        try:
            self._raise_if_failed()
            await self._send(command)
            while not (stream.finished or failed):
                for output in await stream.take():
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
        if self.ready is None:
            return None
        if self._silent > SILENT_SECONDS:
            return f"the engine has not answered for {self._silent:.0f} s"
        busy, patience = self._beat.busy, self._beat.patience
        if busy > patience:
            return f"the engine has been at one step for {busy:.0f} s, where {patience:.0f} s are the most to expect"
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
                await asyncio.to_thread(self._process.wait, _END_SECONDS)
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        await asyncio.to_thread(_await_end, self._children)
        self._socket.close()
        self._pulse.close()
        self._context.term()
        self._folder.close()

    async def _send(self, command: Command) -> None:
        await self._socket.send(self._encoder.encode(command))

    async def _receive(self) -> None:
        for count in itertools.count(1):
            if count % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)  # receiving alone does not wait while messages do
            event = EVENTS.decode(await self._socket.recv())
            match event:
                case Step(outputs=outputs, load=load):
                    self.load = load
                    for output in outputs:
                        if output.request_id in self._streams:
                            self._streams[output.request_id].put(output)
                case BlockMap():
                    asked = self._block_maps.pop(0)
                    if not asked.cancelled():
                        asked.set_result(event)
                case Ready():
                    self.ready, self._silent = event, 0.0
                    if self._process is not None and self._ranks > 1:
                        self._children = psutil.Process(self._process.pid).children()
                    self._started.set_result(event)
                case Failed(message=message, refused=refused):
                    self.refused = refused and self.ready is None
                    self._fail(message)

    async def _listen(self) -> None:
        while True:
            if not await self._pulse.poll(1000 * _LISTEN_SECONDS):
                self._silent += _LISTEN_SECONDS  # not the clock's: what stands still itself has not listened
                if self._silent > SILENT_SECONDS and self.ready is not None and self._ranks > 1:
                    self._end_silent()
                continue
            self._beat, self._silent = BEATS.decode(await self._pulse.recv()), 0.0
            if self._beat.failure:
                self._fail(self._beat.failure)

    def _end_silent(self) -> None:
        """Of several ranks the others do not wait for one that is silent either."""
        if self._process is not None:
            self._process.kill()
            self._fail(f"{self._name} said nothing for {SILENT_SECONDS:g} s and was ended")

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        code = await asyncio.to_thread(process.wait)
        await asyncio.sleep(0.1)  # a last message may still be on its way
        self._fail(f"{self._name} ended with exit code {code}")

    @property
    def _name(self) -> str:
        assert self._process is not None
        if self._ranks == 1:
            return "the engine process"
        return f"rank 0 of {self._ranks} (process {self._process.pid})"

    def _fail(self, message: str) -> None:
        if not self._failure.done():
            self._failure.set_result(message)
            for stream in self._streams.values():
                stream.put(None)

    def _raise_if_failed(self) -> None:
        if self._failure.done():
            raise EngineFailure(self._failure.result())


def _endpoint_in(folder: Path) -> str:
    longest = len(os.fsencode(pulse_endpoint(str(folder / "engine"))))
    if longest > zmq.IPC_PATH_MAX_LEN:
        most = zmq.IPC_PATH_MAX_LEN - longest + len(os.fsencode(folder.parent))
        raise EngineRefused(f"TMPDIR: must have at most {most} bytes, for sockets in it, got {str(folder.parent)!r}")
    return f"ipc://{folder / 'engine'}"


def _await_end(ranks: Sequence[psutil.Process]) -> None:
    """They end with the first one; what they have of a device is free once they are gone."""
    until = time.monotonic() + _END_SECONDS
    while any(_lives(rank) for rank in ranks) and time.monotonic() < until:
        time.sleep(_END_SECONDS / 100)


def _lives(process: psutil.Process) -> bool:
    """psutil's own wait takes for alive what has ended and nobody reaps."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _environment(config: EngineConfig) -> dict[str, str]:
    """The engine process's environment; what the surroundings already say stays."""
    given = dict(os.environ)
    return given if config.device == "cuda" else {"GLIBC_TUNABLES": _CPU_MALLOC, **given}
