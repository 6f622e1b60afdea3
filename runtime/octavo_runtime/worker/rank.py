"""A further rank of a model that several processes compute together: it does what the first rank does.

Started by the first process of its node as `python -m octavo_runtime.worker.rank CONFIG_JSON RANK DESCRIPTOR
STARTER_PID`, with its end of a line to that process. Scores are the same in all ranks of the last stage, and so is what
is drawn from them: what a rank is told is the plans alone."""

import logging
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from octavo_runtime.config.engine import EngineConfig
from octavo_runtime.protocol import logs
from octavo_runtime.protocol.child import end_with_parent
from octavo_runtime.worker.follower import lost_another
from octavo_runtime.worker.heap import keep_all
from octavo_runtime.worker.line import FAILED, READY, RESULT, UP, Line
from octavo_runtime.worker.orders import Draw, Join, Launch, Order, Prepare, decode, encode_result, masks_of

if TYPE_CHECKING:
    from octavo_runtime.worker.model_runner import ModelRunner

_log = logging.getLogger("octavo_runtime.worker.rank")  # this module's own name is __main__


def main() -> int:
    end_with_parent(int(sys.argv[4]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the API process decides
    logs.configure_child()
    config, rank = EngineConfig.model_validate_json(sys.argv[1]), int(sys.argv[2])
    line = Line(Connection(int(sys.argv[3])))
    line.beat(lambda: os._exit(1))  # the main thread may wait for ranks that are gone, in a call that nothing else ends
    try:
        _compute(config, rank, line)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0  # who started it is gone
    except Exception as error:  # the last line of defence: whatever ends a rank is told to the first one
        words = f"{type(error).__name__}: {error}"
        if not (isinstance(error, ValueError | OSError) or lost_another(words)):
            _log.exception("rank %s ends by an error", rank)
        with suppress(OSError):  # who started it may be gone
            line.say(FAILED + words.encode())
        return 1
    return 0


def _compute(config: EngineConfig, rank: int, line: Line) -> None:
    from octavo_runtime.distributed.group import find_store, join, leave
    from octavo_runtime.distributed.mesh import mesh_of
    from octavo_runtime.models.loading.files import locate
    from octavo_runtime.worker.executor import device_executor, gpu_of

    files, gpu, mesh = locate(config.model), gpu_of(config, rank), mesh_of(config)
    order = decode(line.hear())
    assert isinstance(order, Join)
    line.say(UP)
    executor = device_executor(config, files, join(mesh, rank, find_store(order.host, order.port), gpu))
    line.say(READY)
    try:
        _obey(executor, line, draws=mesh.draws(rank), tells=mesh.teller == rank)
    finally:
        try:
            executor.close()
        finally:
            leave()


def _obey(executor: "ModelRunner", line: Line, *, draws: bool, tells: bool) -> None:
    """draws: whether this rank's stage is the last one. tells: whether the first rank must be told what was drawn."""
    early: deque[Order] = deque()  # what came while a masked step waited for its masks

    def next_draw() -> Draw:
        while not isinstance(order := decode(line.hear()), Draw):
            early.append(order)
        return order

    while True:
        match early.popleft() if early else decode(line.hear()):
            case Launch(plan):
                launched = executor.launch(plan)
                if draws and (plan.masked or tells or not launched.leads):
                    result = launched.result(masks_of(next_draw()) if plan.masked else None)
                    if tells:
                        line.say(RESULT + encode_result(result))
            case Prepare():
                if not executor.prepare():
                    keep_all()
            case Draw():
                assert not draws, "no masked step was started"
            case Join():
                raise AssertionError("it has joined")


if __name__ == "__main__":
    sys.exit(main())
