"""A stand-in for the engine process that has its tokens ready: what limits them is who reads them.

Run by EngineClient in the place of octavo_runtime.engine_process.process. Every request gets the same token until its
max_tokens. RATE in the environment: tokens a second, all requests together; 0: as fast as they are read. RECORD: a file
for the times at which the tokens left, as JSON {seed of the request: [seconds on the monotonic clock, ...]}."""

import math
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import zmq

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.engine_process.pulse import Pulse
from octavo_runtime.models.loading.files import locate
from octavo_runtime.protocol.child import end_with_parent
from octavo_runtime.protocol.messages import COMMANDS, Abort, Add, FinishReason, Hello, Load, Output, Ready, Step
from octavo_runtime.text.tokenizer import load_tokenizer

RATE = "OCTAVO_BENCH_TOKEN_RATE"
RECORD = "OCTAVO_BENCH_TOKEN_RECORD"
WORD = " a"  # one token, and so many characters of every event

MAX_MODEL_LEN = 8192
_STEPS_AHEAD = 4  # messages that may wait to be read
_BEAT_SECONDS = 0.5


@dataclass
class _Request:
    client: bytes
    request_id: str
    seed: int
    left: int
    times: list[float] = field(default_factory=list)


def serve(endpoint: str, model: str, rate: float, record: Path | None) -> None:
    """Answers until this process is ended."""
    next_step = time.monotonic()
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _STEPS_AHEAD)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # wait for the reader instead of dropping what it has no room for
    socket.bind(endpoint)
    pulse = Pulse(endpoint, lambda: math.inf)
    pulse.start()
    encoder = msgspec.msgpack.Encoder()
    tokenizer = load_tokenizer(locate(model))
    [token] = tokenizer.encode(WORD, add_special_tokens=False)
    ready = Ready(
        max_model_len=MAX_MODEL_LEN,
        vocab_size=tokenizer.vocab_size,
        hidden_size=1,
        block_size=16,
        num_blocks=1,
        num_host_blocks=0,
        device="cpu",
        dtype="none",
        weight_bytes=0,
        load_seconds=0.0,
    )
    requests: dict[str, _Request] = {}
    times: dict[int, list[float]] = {}
    clients: set[bytes] = set()
    while True:
        wait = next_step - time.monotonic() if requests else _BEAT_SECONDS
        while socket.poll(max(int(wait * 1000), 0)):
            client, payload = socket.recv_multipart()
            match COMMANDS.decode(payload):
                case Hello():
                    clients.add(client)
                    socket.send_multipart([client, encoder.encode(ready)])
                case Add() as add:
                    seed = add.params.seed or 0
                    requests[add.request_id] = _Request(client, add.request_id, seed, add.params.max_tokens or 1)
                    times[seed] = requests[add.request_id].times
                case Abort(request_id=request_id):
                    requests.pop(request_id, None)
            wait = next_step - time.monotonic() if requests else 0
        now = time.monotonic()
        if requests and now < next_step:
            continue
        outputs: dict[bytes, list[Output]] = {client: [] for client in clients}
        for request in list(requests.values()):
            request.left -= 1
            request.times.append(now)
            reason: FinishReason | None = None if request.left else "length"
            outputs[request.client].append(Output(request.request_id, [token], reason))
            if reason:
                del requests[request.request_id]
        for client, brought in outputs.items():
            message = [client, encoder.encode(Step(brought, Load(running=len(requests))))]
            if not _send(socket, message):
                clients.discard(client)
        if rate:
            next_step = max(next_step + len(requests) / rate, now)
        if record is not None and times and not requests:
            record.write_bytes(msgspec.json.encode(times))


def _send(socket: "zmq.Socket[bytes]", message: list[bytes]) -> bool:
    """Waits until the reader has room; whether there is a reader."""
    try:
        socket.send_multipart(message)
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
        return False
    return True


if __name__ == "__main__":
    end_with_parent(int(sys.argv[3]))
    _record = os.environ.get(RECORD)
    serve(
        sys.argv[2],
        EngineConfig.model_validate_json(sys.argv[1]).model,
        float(os.environ.get(RATE, 0)),
        Path(_record) if _record else None,
    )
