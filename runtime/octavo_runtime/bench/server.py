"""`octavo serve` in a process of its own, for benches that measure over HTTP."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from octavo_runtime.config.options import BadOption

_STOP_SECONDS = 20.0


_LISTENING = re.compile(r"octavo: listening on (\S+) ")
_READY = re.compile(r"octavo: ready in .* on (?P<device>.+), (?P<dtype>\w+), up to ")


@dataclass(frozen=True)
class Server:
    """A server that answers. `base_url` ends in /v1; `device` and `dtype` are as in messages.Ready."""

    base_url: str
    device: str
    dtype: str


@contextmanager
def serving(
    model: str,
    flags: Sequence[str] = (),
    *,
    program: Sequence[str] = (sys.executable, "-m", "octavo_runtime", "serve"),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1, from when it is ready to the end of the block. `program` takes serve's
    arguments.

    BadOption, with the server's own line, where it cannot start."""
    # Strict: what the server cannot do as asked would be measured as something else.
    command = [*program, model, "--port", "0", "--no-access-log", "--strict", *flags]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        try:
            server = _wait_ready(process)
            if server is None:
                errors.seek(0)
                lines = errors.read().strip().splitlines() or ["the server ended without a word"]
                raise BadOption(lines[-1].removeprefix("octavo: "))
            yield server
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_ready(process: subprocess.Popen[str]) -> Server | None:
    """The server, once it says that it is ready; None where it ends before that."""
    assert process.stdout is not None
    base_url = ""
    for line in process.stdout:
        if listening := _LISTENING.search(line):
            base_url = listening[1]
        if ready := _READY.search(line):
            return Server(base_url, ready["device"], ready["dtype"])
    return None
