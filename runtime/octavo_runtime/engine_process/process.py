"""The engine in a process of its own: commands in, one message per client and step out.

Started by its client as `python -m octavo_runtime.engine_process.process CONFIG_JSON ENDPOINT CLIENT_PID`. A thread
beats beside the loop (see pulse), so that the API process can tell a hung engine from a busy one."""

import logging
import math
import signal
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Never

import msgspec
import zmq

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine.admission import QueueFull
from octavo_runtime.engine_process.pulse import Pulse
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol import logs
from octavo_runtime.protocol.child import end_with_parent
from octavo_runtime.protocol.messages import (
    COMMANDS,
    Abort,
    Add,
    Embed,
    Failed,
    Hello,
    Inspect,
    Load,
    Output,
    RequestError,
    Step,
)
from octavo_runtime.protocol.reason import as_text
from octavo_runtime.protocol.sampling_params import InvalidParameter
from octavo_runtime.worker.further import start_further
from octavo_runtime.worker.heap import keep_all

if TYPE_CHECKING:
    from octavo_runtime.engine.engine import Engine

LOAD_SECONDS = 0.5  # clients hear of the load at least so often
STATS_SECONDS = 10.0

_log = logging.getLogger("octavo_runtime.engine_process.process")  # this module's own name is __main__

ClientId = bytes


class Mailbox:
    """The engine's end of the zmq socket. Clients are told apart by the identity that zmq puts before their
    messages."""

    def __init__(self, endpoint: str) -> None:
        self.clients: set[ClientId] = set()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 1000)
        # A ROUTER drops what goes beyond this number, 1,000 if nothing is said: tokens, where a client stands still.
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.bind(endpoint)
        self._encoder = msgspec.msgpack.Encoder()

    def receive(self, timeout_seconds: float) -> list[tuple[ClientId, Add | Embed | Abort | Inspect]]:
        """All commands that wait, or come within the timeout. A Hello makes its sender a client."""
        commands: list[tuple[ClientId, Add | Embed | Abort | Inspect]] = []
        wait = int(timeout_seconds * 1000)
        while self._socket.poll(wait):
            wait = 0
            client, payload = self._socket.recv_multipart()
            command = COMMANDS.decode(payload)
            if isinstance(command, Hello):
                self.clients.add(client)
            else:
                commands.append((client, command))
        return commands

    def send(self, client: ClientId, event: msgspec.Struct) -> None:
        self._socket.send_multipart([client, self._encoder.encode(event)])

    def close(self) -> None:
        self._socket.close()
        zmq.Context.instance().term()


class Stats:
    """A line about the engine's load every ten seconds in which it worked."""

    def __init__(self) -> None:
        self._tokens = 0
        self._since = time.monotonic()

    def count(self, outputs: list[Output], load: Load) -> None:
        """Takes in a step's outputs; logs where it is time."""
        self._tokens += sum(len(output.token_ids) for output in outputs)
        seconds = time.monotonic() - self._since
        if seconds < STATS_SECONDS:
            return
        if self._tokens:
            _log.info(
                f"{self._tokens / seconds:.1f} tokens/s, {load.running} running, {load.waiting} waiting, "
                f"KV cache {load.blocks_used / max(load.blocks_total, 1):.0%} used, "
                f"prefix cache hits {load.prefix_hits / max(load.prefix_queries, 1):.0%}"
            )
        self._tokens, self._since = 0, time.monotonic()


def serve(config: EngineConfig, mailbox: Mailbox, endpoint: str) -> Never:
    """Loads the model and steps."""
    engine: Engine | None = None
    pulse = Pulse(endpoint, lambda: math.inf if engine is None else engine.patience)
    pulse.start()  # who loads may have last words, too
    try:
        engine = _load(config)
        _loop(engine, mailbox, pulse, Stats() if config.log_stats else None)
    finally:
        pulse.stop()


def _load(config: EngineConfig) -> "Engine":
    files = locate(config.model)
    further = start_further(config, files) if config.num_ranks > 1 else ()
    # Here, since it imports torch: the socket already listens, and further ranks do the same.
    from octavo_runtime.engine.engine import Engine
    from octavo_runtime.worker.executor import make_executor

    return Engine(config, files, executor=make_executor(config, files, further))


def _loop(engine: "Engine", mailbox: Mailbox, pulse: Pulse, stats: Stats | None) -> Never:
    owners: dict[str, ClientId] = {}
    greeted: set[ClientId] = set()
    next_load = 0.0
    is_prepared = False
    while True:
        busy = engine.has_work or engine.check_some() or engine.prepare_some()
        if not (busy or is_prepared):
            keep_all()
            is_prepared = True
        commands = mailbox.receive(0 if busy else LOAD_SECONDS)
        with pulse.turn():
            outputs = _obey(engine, mailbox, owners, commands)
            for client in mailbox.clients - greeted:
                mailbox.send(client, engine.ready)
                greeted.add(client)
            stepped = engine.step()
            for output in stepped:
                outputs[owners[output.request_id]].append(output)
            for request_id in {output.request_id for output in stepped if output.finish_reason is not None}:
                if request_id not in engine:
                    del owners[request_id]
            load_is_due = time.monotonic() >= next_load
            if outputs or load_is_due:
                next_load = time.monotonic() + LOAD_SECONDS
                load = engine.load
                if stats is not None:
                    stats.count(stepped, load)
                for client in greeted if load_is_due else outputs:
                    mailbox.send(client, Step(outputs[client], load))


def _obey(
    engine: "Engine",
    mailbox: Mailbox,
    owners: dict[str, ClientId],
    commands: list[tuple[ClientId, Add | Embed | Abort | Inspect]],
) -> dict[ClientId, list[Output]]:
    """Carries out what clients ask for; the refusals among the answers."""
    outputs: dict[ClientId, list[Output]] = defaultdict(list)
    for client, command in commands:
        match command:
            case Add(request_id=request_id) | Embed(request_id=request_id):
                try:
                    _add(engine, command)
                    owners[request_id] = client
                except InvalidParameter as error:
                    refusal = RequestError("invalid", as_text(error.reason), error.field)
                    outputs[client].append(Output(request_id, [], "error", error=refusal))
                except QueueFull as error:
                    refusal = RequestError("overloaded", str(error))
                    outputs[client].append(Output(request_id, [], "error", error=refusal))
            case Abort(request_id=request_id, index=index):
                engine.abort(request_id, index)
                if request_id not in engine:
                    owners.pop(request_id, None)
            case Inspect():
                mailbox.send(client, engine.block_map())
    return outputs


def _add(engine: "Engine", command: Add | Embed) -> None:
    """Queues what a client asks for. Raises InvalidParameter and QueueFull."""
    match command:
        case Add(request_id, prompt, params, priority, salt, timeout):
            engine.add_request(request_id, prompt, params, priority=priority, cache_salt=salt, timeout=timeout)
        case Embed(request_id, prompt, pooling, priority, salt, timeout):
            engine.add_embedding(request_id, prompt, pooling, priority=priority, cache_salt=salt, timeout=timeout)


def main() -> int:
    end_with_parent(int(sys.argv[3]))
    # The terminal sends Ctrl-C to the whole group; the API process decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logs.configure_child()
    config, endpoint = EngineConfig.model_validate_json(sys.argv[1]), sys.argv[2]
    mailbox = Mailbox(endpoint)
    try:
        serve(config, mailbox, endpoint)
    except Exception as error:  # the last line of defence: whatever ends the engine is told to every client
        expected = isinstance(error, ValueError | OSError)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        if not expected:
            _log.exception("the engine ends by an error")
        if not mailbox.clients:
            mailbox.receive(2.0)
        for client in mailbox.clients:
            mailbox.send(client, Failed(" ".join(text.split()), refused=isinstance(error, ValueError)))
        return 1
    finally:
        mailbox.close()


if __name__ == "__main__":
    sys.exit(main())
