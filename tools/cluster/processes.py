"""Background processes: started with a record, found again and ended by that record alone.

A process id may be reused once its process has ended, so a record also holds the process's start time and the
machine's boot. Every process that we start carries a mark in its environment, which its children inherit: what a
lost record or a killed parent left behind is found by that mark.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from commands import last_lines
from paths import LOGS, RECORDS, STATE
from steps import StepFailed

MARK = f"OCTAVO_CLUSTER_PROCESS={STATE}"


@dataclass(frozen=True)
class Identity:
    """One process, for good: `started` is in clock ticks since boot (proc(5), /proc/pid/stat field 22)."""

    boot: str
    pid: int
    started: int


@dataclass(frozen=True)
class Record:
    """What was started: the process, its arguments and its files (path -> text)."""

    identity: Identity
    argv: list[str]
    files: dict[str, str]


def identity(pid: int) -> Identity | None:
    """The identity of the live process `pid`; None where there is none (a zombie is not alive)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in brackets, and may hold spaces and brackets itself.
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return Identity(Path("/proc/sys/kernel/random/boot_id").read_text().strip(), pid, int(fields[19]))


def running(name: str) -> Identity | None:
    """The live process recorded under `name`."""
    record = _record(name)
    return record.identity if record and identity(record.identity.pid) == record.identity else None


def ensure(
    name: str,
    argv: Sequence[str | Path],
    *,
    files: Mapping[Path, str] | None = None,
    mounts_of: Identity | None = None,
) -> Identity:
    """Start `argv` as `name`, unless it already runs with the same arguments and files; with others, it is restarted.

    Args:
        files: configuration that the program reads, written before it starts.
        mounts_of: run in this process's mount namespace.
    """
    words = [str(word) for word in argv]
    contents = {str(path): text for path, text in (files or {}).items()}
    alive = running(name)
    if alive and _record(name) == Record(alive, words, contents):
        return alive
    stop([name])
    for path, text in contents.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    started = _start(name, words, mounts_of)
    RECORDS.mkdir(parents=True, exist_ok=True)
    _record_file(name).write_text(json.dumps(asdict(Record(started, words, contents)), indent=1))
    return started


def ended(name: str) -> StepFailed:
    """The failure to raise when `name` does not run or does not answer."""
    text = log(name).read_text(errors="replace") if log(name).exists() else ""
    state = "does not answer" if running(name) else "ended"
    reason = f"{name} {state}; its last log lines:\n{last_lines(text)}"
    return StepFailed(reason, f"read {log(name)}, then run it again")


def stop(names: Iterable[str], seconds: float = 10) -> None:
    """End the recorded processes: SIGTERM to all, then SIGKILL to those left after `seconds`."""
    recorded = list(names)
    end([alive for name in recorded if (alive := running(name))], seconds)
    for name in recorded:
        _record_file(name).unlink(missing_ok=True)


def end(those: Iterable[Identity], seconds: float = 10) -> None:
    """End these processes, and return once they are gone."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience
        those = [process for process in those if _signal(process, number)]
        while those and time.monotonic() < deadline:
            time.sleep(0.02)
            those = [process for process in those if identity(process.pid) == process]


def recorded() -> list[str]:
    """Names of all recorded processes, alive or not."""
    return sorted(path.stem for path in RECORDS.glob("*.json"))


def marked() -> list[Identity]:
    """Every live process that carries this cluster's mark, except the caller."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if MARK.encode() in environment and int(folder.name) != os.getpid():
            found.append(identity(int(folder.name)))
    return [process for process in found if process]


def log(name: str) -> Path:
    """Where `name` writes its output."""
    return LOGS / f"{name}.log"


def _start(name: str, words: list[str], mounts_of: Identity | None) -> Identity:
    LOGS.mkdir(parents=True, exist_ok=True)
    # nsenter replaces itself with the program: the process id stays.
    prefix = ["nsenter", f"--mount=/proc/{mounts_of.pid}/ns/mnt", "--"] if mounts_of else []
    variable, _, value = MARK.partition("=")
    with log(name).open("wb") as output:
        child = subprocess.Popen(
            [*prefix, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=STATE,
            env={**os.environ, variable: value},
            start_new_session=True,
        )
    started = identity(child.pid)
    if started is None:
        raise ended(name)
    return started


def _signal(process: Identity, number: signal.Signals) -> bool:
    if identity(process.pid) != process:
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _record_file(name: str) -> Path:
    return RECORDS / f"{name}.json"


def _record(name: str) -> Record | None:
    try:
        content = json.loads(_record_file(name).read_text())
        return Record(Identity(**content["identity"]), content["argv"], content["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
