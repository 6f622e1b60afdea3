"""The engine's process with a step that takes long, or never ends, for the requests "slow" and "hang"."""

import sys
import time

from octavo_runtime.engine import step_pace
from octavo_runtime.engine.engine import Engine
from octavo_runtime.engine_process import process as engine_process

SLOW_SECONDS = 4.0
step_pace._LEAST_PATIENCE_SECONDS = 6.0

_step = Engine.step


def step(engine: Engine) -> object:
    while "hang" in engine:
        pass
    if "slow" in engine:
        for _ in range(round(SLOW_SECONDS / 0.01)):  # not by the clock, which goes on while the process is stopped
            time.sleep(0.01)
    return _step(engine)


Engine.step = step

if __name__ == "__main__":
    sys.exit(engine_process.main())
